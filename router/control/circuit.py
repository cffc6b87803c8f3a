"""May this deployment be called at all?

A circuit per deployment: OK -> OPEN after repeated failures, OPEN -> PROBING when its cool-down is over, PROBING lets
one call through: its success closes the circuit, its failure opens it for longer, and what other calls still in flight
do meanwhile decides nothing. A throttle is not a failure: it closes the door for as long as the backend said, and the
later of two ends holds. Every transition is kept until it is told. A cool-down of ours is longer than it must be
by chance, so that routers and deployments that failed together do not probe together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from router.domain.view import Health

_FAILURES_TO_OPEN = 3
_COOLDOWN_S = 1.0
_COOLDOWN_MAX_S = 30.0
_JITTER = 0.2
"""Share of a cool-down that it is longer by at most."""
_THROTTLE_S = 1.0
_THROTTLE_MAX_S = 300.0
"""A backend that says to stay away for longer is asked again after this."""
_BREAKING = frozenset(
    {
        "unreachable",
        "backend_overloaded",
        "protocol_error",
        "backend_error",
        "timeout",
        "timeout_connect",
        "timeout_first_token",
        "timeout_gap",
    }
)
_BREAKING_AT_ONCE = frozenset({"backend_forbidden"})
"""Trying again will not help until somebody has changed a key."""


Move = tuple[Health, Health, str]


class Circuit:
    """Health of one deployment, from how its calls ended. Calls are told apart by their attempt id."""

    __slots__ = (
        "_cooldown_s",
        "_failures",
        "_moves",
        "_probe",
        "_rng",
        "_until",
        "health",
        "reason",
        "throttled_until",
    )

    def __init__(self, rng: Random | None = None) -> None:
        self._rng = rng
        self._moves: list[Move] = []
        self.health = Health.OK
        self.reason = ""
        self.throttled_until = 0.0
        self._failures = 0
        self._cooldown_s = _COOLDOWN_S
        self._until = 0.0
        self._probe: str | None = None

    def take(self) -> Sequence[Move]:
        """Transitions since the last time: old, new and why."""
        if not self._moves:
            return ()
        taken, self._moves = self._moves, []
        return taken

    def _go(self, new: Health, why: str) -> None:
        if new is not self.health:
            self._moves.append((self.health, new, why))
        self.health = new

    def blocked(self, now: float) -> str | None:
        """Why no call may go there now, or `None`."""
        if now < self.throttled_until:
            return f"throttled for {self.throttled_until - now:.1f} s more"
        if self.health is Health.OK:
            return None
        if self.health is Health.OPEN:
            if now < self._until:
                if self._until == math.inf:
                    return self.reason
                return f"circuit open for {self._until - now:.1f} s more ({self.reason})"
            return None
        return None if self._probe is None else "probing"

    def on_sent(self, attempt: str, *, now: float) -> None:
        """A call goes out; the first after the cool-down is the probe."""
        if self.health is Health.OPEN and now >= self._until:
            self._go(Health.PROBING, "the cool-down is over: one call is let through")
        if self.health is Health.PROBING and self._probe is None:
            self._probe = attempt

    def on_alive(self, attempt: str) -> None:
        """A first token or an answer came."""
        if self.health is not Health.OK and attempt != self._probe:
            return
        if self.health is not Health.OK:
            self._go(Health.OK, "the call that was let through was answered")
            self.reason = ""
        self._failures, self._probe, self._cooldown_s = 0, None, _COOLDOWN_S

    def on_failed(self, attempt: str, code: str, retry_after_s: float | None, *, now: float) -> None:
        """A call failed."""
        probing = attempt == self._probe
        if probing:
            self._probe = None
        if code == "throttled":
            wait = min(retry_after_s or _THROTTLE_S, _THROTTLE_MAX_S)
            self.throttled_until = max(self.throttled_until, now + wait)
        elif code in _BREAKING_AT_ONCE:
            self._open(code, _COOLDOWN_MAX_S, now=now)
        elif code in _BREAKING:
            self._count(code, retry_after_s or 0.0, probing=probing, now=now)

    def _count(self, code: str, retry_after_s: float, *, probing: bool, now: float) -> None:
        self._failures += 1
        if probing:
            self._cooldown_s = min(2.0 * self._cooldown_s, _COOLDOWN_MAX_S)
        elif self.health is not Health.OK or self._failures < _FAILURES_TO_OPEN:
            return
        jitter = 1.0 if self._rng is None else 1.0 + _JITTER * self._rng.random()
        self._open(code, max(jitter * self._cooldown_s, min(retry_after_s, _THROTTLE_MAX_S)), now=now)

    def _open(self, code: str, cooldown_s: float, *, now: float) -> None:
        self._go(Health.OPEN, code)
        self.reason = code
        self._until = max(self._until, now + cooldown_s)

    def withhold(self, why: str) -> None:
        """No call may go there until `release`, whatever calls still in flight tell."""
        self._open(why, math.inf, now=0.0)
        self._probe = None

    def release(self, why: str, *, now: float) -> None:
        """End what `withhold` began: one call is let through first."""
        if self._until == math.inf:
            self._until = now
            self._go(Health.PROBING, why)

    def on_withdrawn(self, attempt: str) -> None:
        """A call was cancelled before it told anything."""
        if attempt == self._probe:
            self._probe = None
