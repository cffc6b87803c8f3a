"""May this deployment be called at all?

A circuit per deployment: OK -> OPEN after repeated failures, OPEN -> PROBING when its cool-down is over, PROBING lets
one call through: success closes it, failure opens it for longer. A throttle is not a failure: it closes the door for as
long as the backend said, and the later of two ends holds.
"""

from __future__ import annotations

from router.domain.view import Health

_FAILURES_TO_OPEN = 3
_COOLDOWN_S = 1.0
_COOLDOWN_MAX_S = 30.0
_THROTTLE_S = 1.0
_BREAKING = frozenset(
    {
        "unreachable",
        "backend_overloaded",
        "protocol_error",
        "backend_error",
        "timeout_connect",
        "timeout_first_token",
        "timeout_gap",
    }
)


class Circuit:
    """Health of one deployment, from how its calls ended."""

    __slots__ = ("_cooldown_s", "_failures", "_probe_out", "_until", "health", "reason", "throttled_until")

    def __init__(self) -> None:
        self.health = Health.OK
        self.reason = ""
        self.throttled_until = 0.0
        self._failures = 0
        self._cooldown_s = _COOLDOWN_S
        self._until = 0.0
        self._probe_out = False

    def blocked(self, *, now: float) -> str | None:
        """Why no call may go there now, or `None`."""
        if now < self.throttled_until:
            return f"throttled for {self.throttled_until - now:.1f} s more"
        if self.health is Health.OK:
            return None
        if self.health is Health.OPEN:
            if now < self._until:
                return f"circuit open for {self._until - now:.1f} s more ({self.reason})"
            return None
        return "probing" if self._probe_out else None

    def on_sent(self, *, now: float) -> bool:
        """A call goes out; true when that makes it the probe."""
        if self.health is Health.OPEN and now >= self._until:
            self.health = Health.PROBING
        if self.health is Health.PROBING and not self._probe_out:
            self._probe_out = True
            return True
        return False

    def on_alive(self) -> bool:
        """A first token or an answer came; true when that closed the circuit."""
        self._failures = 0
        if self.health is Health.OK:
            return False
        self.health, self.reason = Health.OK, ""
        self._probe_out, self._cooldown_s = False, _COOLDOWN_S
        return True

    def on_failed(self, code: str, retry_after_s: float | None, *, now: float) -> bool:
        """A call failed; true when that opened the circuit."""
        if code == "throttled":
            self._probe_out = False
            self.throttled_until = max(self.throttled_until, now + (retry_after_s or _THROTTLE_S))
            return False
        if code not in _BREAKING:
            self._probe_out = False
            return False
        self._failures += 1
        probing = self.health is Health.PROBING
        if not probing and self._failures < _FAILURES_TO_OPEN:
            return False
        if self.health is Health.OPEN:
            return False
        if probing:
            self._cooldown_s = min(2.0 * self._cooldown_s, _COOLDOWN_MAX_S)
        self.health, self.reason, self._probe_out = Health.OPEN, code, False
        self._until = max(self._until, now + max(self._cooldown_s, retry_after_s or 0.0))
        return True

    def on_withdrawn(self) -> None:
        """A call was cancelled before it told anything."""
        self._probe_out = False
