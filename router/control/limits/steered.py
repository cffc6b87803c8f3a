"""What the limits have in common that are steered by observation alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

from router.control.limits.observed import Observed
from router.control.limits.protocol import Sight, StepModel
from router.control.limits.response import EXERCISED, Response
from router.control.limits.stand import Stand
from router.domain.deployment import LimitKind
from router.domain.events import LimitUpdate

DEEPEST = 0.5
"""The most that is left of a limit after one change."""
_LATE = 0.8
"""What is left of it where first tokens are late: how late says little, for prompts differ in length."""
_BIG = 0.1
"""Share from which on a change makes another state of the server, of which earlier observations say nothing."""
TOKENS_LATE, FIRST_LATE, HEADROOM = "time per output token", "time to first token", "headroom"


class Steered(ABC):
    """A limit that moves once the last change has been answered, and grows only while it is used.

    A call that fails or times out tells no pace, so it
    raises nothing; without fresh observations nothing moves.
    """

    kind: LimitKind

    def __init__(self, stand: Stand, observed: Observed | None = None) -> None:
        self.stand = stand
        self.observed = observed or Observed()
        self._response = Response()
        self._was_big = True

    @property
    def value(self) -> float:
        """Calls that may be in flight."""
        return self.stand.value

    def rebound(self, low: float, high: float) -> None:
        """See `Limit.rebound`."""
        self.stand.rebound(low, high)

    def put(self, value: float, reason: str) -> LimitUpdate | None:
        """See `Limit.put`."""
        return self.stand.move(value, reason)

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """See `Limit.observe_gap`."""
        self.observed.pace.observe_gap(gap_s, now=now)

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """See `Limit.observe_call`."""
        self.observed.pace.observe_call(tpot_s, first_token, now=now)

    def observe_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """See `Limit.observe_first_token`."""
        self.observed.on_first_token(started, inside=inside, now=now)

    def on_refused(self, used: int, *, now: float) -> LimitUpdate | None:
        """See `Limit.on_refused`."""
        self._response.restart(now, lowered=True)
        return self.stand.refuse(used, now=now)

    def update(self, model: StepModel, sight: Sight) -> LimitUpdate | None:
        """See `Limit.update`."""
        now, response = sight.now, self._response
        self.stand.ceiling.beat(sight.used, now=now)
        if response.feel(sight.used, self.value, now=now) and self._was_big:
            self.observed.restart(now)
        if not self.observed.is_fresh(now):
            return None
        allowed_s = self._allowed_s(sight)
        if response.may_lower(now):
            excess = 0.0 if allowed_s is None else self.observed.excess(allowed_s, now=now)
            if excess > 1.0:
                return self._go(self.value * max(DEEPEST, self._kept(excess)), TOKENS_LATE, now)
            if self.observed.is_late(now):
                self.observed.on_lowered_for_firsts(now)
                return self._go(self.value * _LATE, FIRST_LATE, now)
        if response.may_raise(now) and sight.used >= EXERCISED * self.value:
            nearness = 0.0 if allowed_s is None else self.observed.nearness(allowed_s)
            if nearness < 1.0 and not self.observed.is_late(now):
                return self._go(self.value + self._more(nearness), HEADROOM, now)
        return None

    def _go(self, wanted: float, reason: str, now: float) -> LimitUpdate | None:
        before = self.value
        update = self.stand.move(wanted, reason)
        if self.value != before:
            self._was_big = abs(self.value - before) > _BIG * before
            self._response.restart(now, lowered=self.value < before)
        return update

    def _allowed_s(self, sight: Sight) -> float | None:
        """Seconds a token that nearly all calls may take; `None` where any pace will do."""
        return sight.tpot_s

    @abstractmethod
    def _kept(self, excess: float) -> float:
        """The share of the limit that is left where the pace is `excess` (over 1) times what it may be."""

    @abstractmethod
    def _more(self, nearness: float) -> float:
        """Calls to add where the pace is `nearness` (under 1) times what it may be."""
