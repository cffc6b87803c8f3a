"""How many calls may a deployment have in flight?

A limit is a number with the reason it last moved. `StepModelLimit` asks the latency model how many sequences keep the
time per output token inside the tightest objective in force; `FixedLimit` is what the operator wrote.
"""

from __future__ import annotations

from typing import Protocol

from router.domain.events import LimitUpdate

_SLEW = 0.25
_WORTH_TELLING = 0.05


class StepModel(Protocol):
    """What a limit asks of the latency model."""

    def step_s(self, sequences: float, context_tokens: float) -> float:
        """Seconds of a step that only decodes."""
        ...


class Limit(Protocol):
    """A concurrency limit."""

    value: float

    def rebound(self, low: float, high: float) -> None:
        """Take the operator's new bounds."""
        ...

    def update(
        self,
        model: StepModel,
        *,
        tpot_s: float | None,
        context_per_sequence: float,
        prefill_share: float,
        used: int,
    ) -> LimitUpdate | None:
        """Move towards what the objective allows; says so when it moved enough to matter."""
        ...


class FixedLimit:
    """What the operator wrote."""

    def __init__(self, value: float) -> None:
        self.value = value

    def rebound(self, low: float, high: float) -> None:
        """The operator wrote another."""
        self.value = high

    def update(
        self,
        model: StepModel,
        *,
        tpot_s: float | None,
        context_per_sequence: float,
        prefill_share: float,
        used: int,
    ) -> LimitUpdate | None:
        """Never moves."""
        return None


class StepModelLimit:
    """B* = [tau (1 - u) - k a] / [k (b + c * mean context)] (u is the share of time in prefill).

    Moves at most a quarter of itself per update, and does not grow while less than half of it is used.
    """

    def __init__(self, deployment: str, *, low: float, high: float) -> None:
        self.deployment, self.low, self.high = deployment, low, high
        self.value = high
        self._told = high

    def rebound(self, low: float, high: float) -> None:
        """Take new bounds and stay where it is, as far as they allow."""
        self.low, self.high = low, high
        self.value = min(max(self.value, low), high)

    def update(
        self,
        model: StepModel,
        *,
        tpot_s: float | None,
        context_per_sequence: float,
        prefill_share: float,
        used: int,
    ) -> LimitUpdate | None:
        """See `Limit.update`; without a TPOT objective the limit rests at its upper bound."""
        wanted = self.high
        if tpot_s is not None:
            fixed = model.step_s(0.0, 0.0)
            each = model.step_s(1.0, context_per_sequence) - fixed
            wanted = (tpot_s * (1.0 - min(prefill_share, 0.9)) - fixed) / max(each, 1e-9)
        if wanted > self.value and used < 0.5 * self.value:
            return None
        slew = _SLEW * max(self.value, 4.0)
        moved = min(max(wanted, self.value - slew), self.value + slew)
        self.value = min(max(moved, self.low), self.high)
        if abs(self.value - self._told) <= _WORTH_TELLING * self._told:
            return None
        old, self._told = self._told, self.value
        reason = "time per output token" if self.value < old else "headroom"
        return LimitUpdate(self.deployment, "in_flight", old, self.value, reason)
