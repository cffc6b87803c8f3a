"""Where a limit stands: its value inside the operator's bounds and under what was refused, and what was last told."""

from __future__ import annotations

from router.control.limits.ceiling import Ceiling
from router.domain.events import LimitUpdate

REQUESTS, TOKENS = "in_flight", "tokens"
"""What is limited, as `LimitUpdate.what` says it."""


class Stand:
    """The number itself. It is what the operator wrote, or where another limit left off, until there is a reason."""

    __slots__ = ("_told", "ceiling", "deployment", "high", "low", "value")

    def __init__(
        self, deployment: str, *, low: float, high: float, start: float | None = None, ceiling: Ceiling | None = None
    ) -> None:
        self.deployment, self.low, self.high = deployment, low, high
        self.ceiling = ceiling or Ceiling()
        self.value = high if start is None else min(max(start, low), high)
        self._told = self.value

    def rebound(self, low: float, high: float) -> None:
        """Take new bounds and stay where it is, as far as they allow."""
        self.low, self.high = low, high
        self.value = min(max(self.value, low), high)

    def move(self, wanted: float, reason: str, *, worth_telling: float = 0.0) -> LimitUpdate | None:
        """Go to `wanted` as far as that is allowed; says so where it is now more than the share `worth_telling` away
        from what was told last."""
        self.value = max(min(wanted, self.high, self.ceiling.value), self.low)
        if abs(self.value - self._told) <= worth_telling * self._told:
            return None
        old, self._told = self._told, self.value
        return LimitUpdate(self.deployment, REQUESTS, old, self.value, reason)

    def say(self, reason: str) -> LimitUpdate:
        """Tell what happened to it though the number stays."""
        old, self._told = self._told, self.value
        return LimitUpdate(self.deployment, REQUESTS, old, self.value, reason)

    def refuse(self, used: int, *, now: float) -> LimitUpdate | None:
        """The deployment refused a call beside `used` others: cut at once."""
        self.ceiling.on_refused(used, now=now)
        return self.move(self.value, "refused")
