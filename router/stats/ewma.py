"""Averages that forget by time, not by count."""

from __future__ import annotations

from math import exp, log

_LN2 = log(2.0)


class Ewma:
    """Exponentially weighted mean and variance of samples that come at uneven times.

    `half_life_s` is the time after which a sample counts half. Starts at `mean`, `variance`, believed as firmly as
    `weight` fresh samples. After a silence the next sample counts half, never more: one glitch is not the truth.
    """

    __slots__ = ("half_life_s", "last", "mean", "variance", "weight")

    def __init__(self, half_life_s: float, *, mean: float, variance: float = 0.0, weight: float = 1.0) -> None:
        self.half_life_s = half_life_s
        self.mean = mean
        self.variance = variance
        self.weight = weight
        self.last: float | None = None

    def update(self, value: float, *, now: float) -> None:
        """Take one sample (West's incremental weighted mean and variance)."""
        if self.last is not None and now > self.last:
            weight = self.weight * exp(-_LN2 * (now - self.last) / self.half_life_s)
            self.weight = weight if weight > 1.0 else 1.0
        self.last = now
        self.weight += 1.0
        share = 1.0 / self.weight
        delta = value - self.mean
        self.mean += share * delta
        self.variance = (1.0 - share) * (self.variance + share * delta * delta)


class Rate:
    """Amount per second, averaged over about `window_s`."""

    __slots__ = ("last", "per_s", "window_s")

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.per_s = 0.0
        self.last: float | None = None

    def add(self, amount: float, *, now: float) -> None:
        """Count `amount` at `now`."""
        self.per_s = self.at(now) + amount / self.window_s
        self.last = now

    def at(self, now: float) -> float:
        """Amount per second as of `now`; decays while nothing comes."""
        if self.last is None:
            return 0.0
        return self.per_s * exp(-(now - self.last) / self.window_s)
