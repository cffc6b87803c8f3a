"""What is a dollar worth, so that the mean cost stays within a budget?

The dual price of a budget a request: the least price at which the best choices over the recent requests cost no more
than may be spent. It is solved again over a sliding window of what the candidates were expected to bring and to cost,
chosen or not, so that it is right after some dozens of requests; steps of a gradient would need hundreds. What was
spent too little or too much until now is made up over the next `_HORIZON` requests. A budget that lies between two
models is so spent where a dollar gains most, never worse than a fixed share of each.

How much is spent over any stretch of T requests follows from what may be saved up before it and owed after it: at most
(T + `most_saved` + `_OVERDRAFT`) budgets, but for what calls cost beyond what was expected of them, which is made up,
and for what a floor buys, which comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from router.slo.frontier import Frontier

_WINDOW = 400
_SOLVE_EVERY = 8
_SOLVE_ALWAYS_UNTIL = 32
_AIM = 0.998
"""Share of the budget that is aimed at."""
_HORIZON = 50
"""Requests over which too much or too little is made up. This and what follows were chosen on two-model and
three-model streams of judged answers, and are in budgets of one request."""
_BUILD = 5.0
"""What is kept unspent."""
_OVERDRAFT = 4.0
"""What may be owed: 1 % of four hundred requests, no more however many come."""
_EARLY = 4.0
"""Spread over the first requests, whose few candidates say little about the price."""
_DEAR, _TAIL, _RESERVE = 3.0, 3.0, 10.0
"""A call that costs more budgets than the first is made only where so many times its cost, and the reserve, are saved:
one that turns out much dearer than expected must not leave the next requests with the cheapest model."""
_FORECAST_MEMORY = 200.0
"""Requests over which it is learned by how much calls cost more than expected."""
_FARTHEST = 4.0
_MOST = 1e12


class BudgetPrice:
    """Paces one stream of requests to `usd` a request, whatever its length. Of what is not spent, `most_saved` budgets
    are kept for later; as much is owed at most."""

    def __init__(self, usd: float, *, most_saved: float = math.inf) -> None:
        self.usd = usd
        self.value = 0.0
        """Units of quality that a dollar must bring."""
        self.is_overruled = False
        """Whether a floor keeps the cost above the budget."""
        self.saved_usd = 0.0
        """Less than 0 where it is owed."""
        self.requests = 0
        self._most_saved = most_saved
        self._frontier = Frontier(_WINDOW)
        self._is_told = False
        """Whether the price is known from before, until there are requests to solve it by."""
        self._expected_usd = self._realised_usd = _FORECAST_MEMORY * usd

    def offer(
        self,
        quality: Sequence[float],
        cost_usd: Sequence[float],
        adequate: Sequence[float] | None = None,
        *,
        least_adequate: float = 0.0,
    ) -> float:
        """The next request's candidates; the price for it. Where a floor counts, P(`adequate`) of each, and the least
        mean of it that may be left."""
        self._frontier.add(quality, cost_usd, quality if adequate is None else adequate)
        self.requests += 1
        known = len(self._frontier)
        if self._is_told and known < _SOLVE_ALWAYS_UNTIL:
            return self.value
        if known < _SOLVE_ALWAYS_UNTIL or self.requests % _SOLVE_EVERY == 0:
            target_usd = self._target_usd() / self.dearer
            self.value, self.is_overruled = self._frontier.price(target_usd, least_adequate)
        return self.value

    def affords(self, cost_usd: float) -> bool:
        """Whether this request may be expected to cost so much without breaking the budget until here."""
        return cost_usd <= self.bears_usd

    @property
    def bears_usd(self) -> float:
        """The most that this request may be expected to cost."""
        left = self.saved_usd + self.usd + _OVERDRAFT * self.usd
        dear = (left - _RESERVE * self.usd) / _TAIL
        return (dear if dear > _DEAR * self.usd else min(left, _DEAR * self.usd)) / self.dearer

    def spend(self, cost_usd: float) -> None:
        """What the request has cost in the end, or is expected to: then `settle` sets it right."""
        self._save(self.usd - cost_usd)

    def settle(self, expected_usd: float, realised_usd: float) -> None:
        """A request that was expected to cost so much has cost so much."""
        self._save(expected_usd - realised_usd)
        kept = 1.0 - 1.0 / _FORECAST_MEMORY
        self._expected_usd = kept * self._expected_usd + expected_usd
        self._realised_usd = kept * self._realised_usd + realised_usd

    @property
    def mean_usd(self) -> float:
        """Mean cost of the requests that ended lately."""
        return self._realised_usd / _FORECAST_MEMORY

    @property
    def dearer(self) -> float:
        """By how much requests cost more than is expected of their first call."""
        if self._expected_usd <= 0.0:
            return 1.0
        return min(max(self._realised_usd / self._expected_usd, 1.0 / _FARTHEST), _FARTHEST)

    def change(self, usd: float) -> None:
        """Another budget from here on; what was saved stays."""
        if usd != self.usd:
            self.usd = usd
            self._save(0.0)

    def forget(self) -> None:
        """Calls cost something else now: the price stays until it can be solved anew."""
        self._frontier.clear()
        self._is_told = self.requests > 0

    def state(self) -> list[float]:
        """What a checkpoint keeps."""
        return [self.value, self.saved_usd, float(self.requests), self._expected_usd, self._realised_usd]

    def restore(self, state: Sequence[float]) -> None:
        """Take up a checkpoint; raises `ValueError` where it is not one."""
        value, saved, requests, expected, realised = state
        if not all(math.isfinite(number) for number in state) or min(value, requests, expected, realised) < 0.0:
            raise ValueError("the state of a budget is not one")
        self.value, self.saved_usd, self.requests = value, saved, int(min(requests, _MOST))
        self._expected_usd, self._realised_usd = min(expected, _MOST), min(realised, _MOST)
        self._save(0.0)
        self.forget()

    def _save(self, usd: float) -> None:
        most = self._most_saved * self.usd
        self.saved_usd = min(max(self.saved_usd + usd, -most), most)

    def _target_usd(self) -> float:
        """What the next requests may cost each."""
        makes_up = (self.saved_usd - _BUILD * self.usd) / _HORIZON + _EARLY * self.usd / self.requests
        return min(max(_AIM * self.usd + makes_up, 0.0), 2.0 * self.usd)


class Pace:
    """One request of a paced stream, from its decision to its end."""

    __slots__ = ("_expected_usd", "_pacer")

    def __init__(self, pacer: BudgetPrice) -> None:
        self._pacer = pacer
        self._expected_usd: float | None = None

    @property
    def bears_usd(self) -> float:
        """The most that it may be expected to cost."""
        return math.inf if self._pacer.is_overruled else self._pacer.bears_usd

    def on_decided(self, cost_usd: float) -> None:
        """It goes where it is expected to cost so much; of several decisions the first counts."""
        if self._expected_usd is None:
            self._expected_usd = cost_usd
            self._pacer.spend(cost_usd)

    def on_ended(self, cost_usd: float) -> None:
        """It has cost so much in all."""
        if self._expected_usd is not None:
            self._pacer.settle(self._expected_usd, cost_usd)
