"""A limit that only says where it would go.

What is in force is what the operator wrote. The limit behind it sees everything that it would see if it were in force;
it moves at most to half or twice of that, for further off what it observes is no answer to it.
"""

from __future__ import annotations

from msgspec.structs import replace

from router.control.limits import Limit, Sight
from router.control.limits.protocol import StepModel
from router.domain.events import LimitUpdate

FARTHEST = 2.0


class AdvisedLimit:
    """See `Limit`; every update is marked as advice."""

    def __init__(self, behind: Limit, low: float, high: float) -> None:
        self.kind = behind.kind
        self.value = behind.value
        self.behind = behind
        self.rebound(low, high)

    @property
    def advised(self) -> float:
        """Where it would stand."""
        return self.behind.value

    def rebound(self, low: float, high: float) -> None:
        """See `Limit.rebound`."""
        self.value = min(max(self.value, low), high)
        self.behind.rebound(max(low, self.value / FARTHEST), min(high, self.value * FARTHEST))

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """See `Limit.observe_gap`."""
        self.behind.observe_gap(gap_s, now=now)

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """See `Limit.observe_call`."""
        self.behind.observe_call(tpot_s, first_token, now=now)

    def observe_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """See `Limit.observe_first_token`."""
        self.behind.observe_first_token(started, inside=inside, now=now)

    def on_refused(self, used: int, *, now: float) -> LimitUpdate | None:
        """The circuit keeps calls away for as long as the deployment asks; the number stays."""
        return _marked(self.behind.on_refused(used, now=now))

    def update(self, model: StepModel, sight: Sight) -> LimitUpdate | None:
        """See `Limit.update`."""
        return _marked(self.behind.update(model, sight))

    def put(self, value: float, reason: str) -> LimitUpdate | None:
        """What the operator wrote stays."""
        return None


def _marked(update: LimitUpdate | None) -> LimitUpdate | None:
    return None if update is None else replace(update, advised=True)
