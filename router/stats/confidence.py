"""How sure is a mean, however often it is looked at?

A confidence *sequence*: its interval holds at all times at once, so that a test may be stopped as soon as it says
something without spoiling its error rate.
"""

from __future__ import annotations

import math
from typing import Protocol

_MOST_BET = 0.5
_SIZED_BY = 50
"""Values from which the scale of an unbounded quantity is taken."""
_HEADROOM = 4.0
"""The scale is so many times the largest of those."""


class MeanSequence(Protocol):
    """A running mean with an interval that may be looked at after every value."""

    @property
    def count(self) -> int:
        """Values so far."""
        ...

    @property
    def mean(self) -> float:
        """The plain mean; 0 of nothing."""
        ...

    def add(self, value: float) -> None:
        """One more value."""
        ...

    def interval(self) -> tuple[float, float]:
        """Low and high."""
        ...


class BoundedMean:
    """The mean of values in [0, 1] by the predictable plug-in empirical Bernstein sequence (Waudby-Smith and Ramdas,
    "Estimating means of bounded random variables by betting", 2024, theorem 2). It assumes nothing but the bounds."""

    __slots__ = ("_bets", "_guess", "_log_term", "_risk", "_squares", "_total", "_weighted", "count")

    def __init__(self, alpha: float) -> None:
        self._log_term = math.log(2.0 / alpha)
        self.count = 0
        self._total = self._bets = self._weighted = self._risk = 0.0
        self._guess, self._squares = 0.5, 0.25

    @property
    def mean(self) -> float:
        """The plain mean; 0 of nothing."""
        return self._total / self.count if self.count else 0.0

    def add(self, value: float) -> None:
        """One more value."""
        variance = self._squares / (self.count + 1)
        self.count += 1
        bet = math.sqrt(2.0 * self._log_term / (variance * self.count * math.log1p(self.count)))
        bet = min(bet, _MOST_BET)
        self._risk += (value - self._guess) ** 2 * (-math.log1p(-bet) - bet)
        self._bets += bet
        self._weighted += bet * value
        self._total += value
        self._guess = (0.5 + self._total) / (self.count + 1)
        self._squares += (value - self._guess) ** 2

    def interval(self) -> tuple[float, float]:
        """Low and high, within [0, 1]."""
        if not self.count:
            return 0.0, 1.0
        centre, radius = self._weighted / self._bets, (self._log_term + self._risk) / self._bets
        return max(centre - radius, 0.0), min(centre + radius, 1.0)


class Scale:
    """How large a quantity without a bound gets: fixed by the first values of all the means that share it, so that
    none of them can choose it. What is larger is clipped, and the interval is that of the clipped mean."""

    __slots__ = ("_seen", "_waiting", "top")

    def __init__(self) -> None:
        self._waiting: list[tuple[BoundedMean, float]] = []
        self._seen = 0.0
        self.top: float | None = None

    def add(self, mean: BoundedMean, value: float) -> None:
        """One more value of one of the means."""
        if self.top is not None:
            mean.add(min(value / self.top, 1.0))
            return
        self._seen = max(self._seen, value)
        self._waiting.append((mean, value))
        if len(self._waiting) >= _SIZED_BY and self._seen > 0.0:
            self.top = _HEADROOM * self._seen
            for waiting, early in self._waiting:
                waiting.add(early / self.top)
            self._waiting.clear()


class ScaledMean:
    """The mean of values of 0 and more, on a scale that it shares with those it is compared with."""

    __slots__ = ("_bounded", "_scale", "_total", "count")

    def __init__(self, alpha: float, scale: Scale) -> None:
        self._bounded, self._scale = BoundedMean(alpha), scale
        self.count, self._total = 0, 0.0

    @property
    def mean(self) -> float:
        """The plain mean; 0 of nothing."""
        return self._total / self.count if self.count else 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.count += 1
        self._total += value
        self._scale.add(self._bounded, value)

    def interval(self) -> tuple[float, float]:
        """Low and high; everything, until the scale is known."""
        top = self._scale.top
        if top is None:
            return 0.0, math.inf
        low, high = self._bounded.interval()
        return low * top, high * top
