"""What would the best choices over recent requests have cost, at any price of a dollar?

As the price rises, the best choice of a request moves down the upper hull of what its candidates bring over what they
cost, one step at a time; each step has the price at which it is taken, and what it saves. The steps of all requests in
a window, in the order of their prices, are the whole trade of a budget: the price that meets a mean cost is that of
the last step that has to be taken. The place among the steps is kept from one question to the next, so that an answer
takes a few additions and not a search over the window.
"""

from __future__ import annotations

from bisect import bisect_left, insort_right
from collections import deque
from collections.abc import Sequence

Step = tuple[float, float, float]
"""Price in units of quality a dollar, dollars saved, adequacy lost."""
NEVER = 1e9
"""A price at which only the cost counts."""
_PAST = 1.0 + 1e-9
"""Just past the price of a step, so that it is taken."""


class Frontier:
    """The last `most` requests."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests: deque[tuple[float, float, list[Step]]] = deque()
        self._steps: list[Step] = []
        self._taken = 0
        """So many of the steps are taken at the price last asked for."""
        self._usd = self._adequate = 0.0
        """Sums of what the choices of that price cost, and of how likely each is adequate."""

    def __len__(self) -> int:
        return len(self._requests)

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
        self._steps.clear()
        self._taken, self._usd, self._adequate = 0, 0.0, 0.0

    def add(self, worth: Sequence[float], cost_usd: Sequence[float], adequate: Sequence[float]) -> None:
        """The candidates of one request: what each is worth before its cost, and how likely it is adequate."""
        if len(self._requests) == self._most:
            self._drop()
        best = 0
        for i in range(1, len(worth)):
            if worth[i] > worth[best] or (worth[i] == worth[best] and cost_usd[i] < cost_usd[best]):
                best = i
        steps = _descent(best, worth, cost_usd, adequate)
        self._requests.append((cost_usd[best], adequate[best], steps))
        self._usd += cost_usd[best]
        self._adequate += adequate[best]
        for step in steps:
            if self._taken and step < self._steps[self._taken - 1]:
                self._take(step)
            insort_right(self._steps, step)

    def _drop(self) -> None:
        usd, adequate, steps = self._requests.popleft()
        self._usd -= usd
        self._adequate -= adequate
        for step in steps:
            at = bisect_left(self._steps, step)
            if at < self._taken:
                self._give_back(step)
            del self._steps[at]

    def price(self, mean_usd: float, least_adequate: float = 0.0) -> tuple[float, bool]:
        """The least price at which the mean cost is at most `mean_usd`, `NEVER` where there is none. No step is taken
        that leaves a smaller mean of adequacy than `least_adequate`: true where that keeps the cost above."""
        most_usd, least = mean_usd * len(self._requests), least_adequate * len(self._requests)
        steps = self._steps
        while self._taken:
            last = steps[self._taken - 1]
            if self._usd + last[1] > most_usd and self._adequate >= least:
                break
            self._give_back(last)
        while self._usd > most_usd and self._taken < len(steps):
            following = steps[self._taken]
            if self._adequate - following[2] < least:
                return self._reached(), True
            self._take(following)
        if self._usd > most_usd:
            return NEVER, False
        return self._reached(), False

    def _reached(self) -> float:
        return self._steps[self._taken - 1][0] * _PAST if self._taken else 0.0

    def _take(self, step: Step) -> None:
        self._taken += 1
        self._usd -= step[1]
        self._adequate -= step[2]

    def _give_back(self, step: Step) -> None:
        self._taken -= 1
        self._usd += step[1]
        self._adequate += step[2]


def _descent(at: int, worth: Sequence[float], cost_usd: Sequence[float], adequate: Sequence[float]) -> list[Step]:
    """From the best down to the cheapest, each time to where a dollar saved loses least."""
    steps: list[Step] = []
    left: Sequence[int] = range(len(worth))
    while True:
        here, usd = worth[at], cost_usd[at]
        left = [i for i in left if cost_usd[i] < usd]
        if not left:
            return steps
        price, lower = NEVER, left[0]
        for i in left:
            loss = (here - worth[i]) / (usd - cost_usd[i])
            if loss < price or (loss == price and cost_usd[i] < cost_usd[lower]):
                price, lower = loss, i
        steps.append((price, usd - cost_usd[lower], adequate[at] - adequate[lower]))
        at = lower
