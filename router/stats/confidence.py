"""How sure is a mean, however often it is looked at?

A confidence *sequence*: its interval holds at all times at once, so that a test may be stopped as soon as it says
something without spoiling its error rate.
"""

from __future__ import annotations

import math
from typing import Protocol

_MOST_BET = 0.5
_TUNED_FOR = 500.0
"""Number of values at which the asymptotic interval is tightest."""
_LEAST_VALUES = 50
"""Before that many values the asymptotic interval says nothing."""


class MeanSequence(Protocol):
    """A running mean with an interval that may be looked at after every value."""

    count: int

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


class AsymptoticMean:
    """The mean of values without bounds, by Robbins' normal mixture with the estimated variance (Waudby-Smith et al.,
    "Time-uniform central limit theory and asymptotic confidence sequences", 2024, theorem 2.2)."""

    __slots__ = ("_alpha", "_rho2", "_squares", "count", "mean")

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._rho2 = (2.0 * math.log(1.0 / alpha) + math.log1p(2.0 * math.log(1.0 / alpha))) / _TUNED_FOR
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.count += 1
        gap = value - self.mean
        self.mean += gap / self.count
        self._squares += gap * (value - self.mean)

    def interval(self) -> tuple[float, float]:
        """Low and high; everything, while there are too few values."""
        n = self.count
        if n < _LEAST_VALUES:
            return -math.inf, math.inf
        grown = n * self._rho2 + 1.0
        radius = math.sqrt(
            self._squares / n * 2.0 * grown / (n * n * self._rho2) * math.log(math.sqrt(grown) / (self._alpha / 2.0))
        )
        return self.mean - radius, self.mean + radius
