"""Intervals that may be looked at as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from router.stats.confidence import BoundedMean, MeanSequence, Scale, ScaledMean


def misses(
    make: Callable[[float], MeanSequence], draw: Callable[[Random], float], truth: float, *, alpha: float
) -> float:
    """Share of streams whose interval excludes the truth at any of 400 looks."""
    missed, streams = 0, 300
    for seed in range(streams):
        rng, mean = Random(seed), make(alpha)
        for _ in range(400):
            mean.add(draw(rng))
            low, high = mean.interval()
            if not low <= truth <= high:
                missed += 1
                break
    return missed / streams


@pytest.mark.parametrize("p", [0.5, 0.95, 0.99])
def test_a_bounded_mean_is_rarely_missed_however_often_it_is_looked_at(p: float) -> None:
    """At a risk of 10 %, no more than one stream in ten ever excludes the truth."""
    assert misses(BoundedMean, lambda rng: float(rng.random() < p), p, alpha=0.1) <= 0.1


def scaled(alpha: float) -> ScaledMean:
    return ScaledMean(alpha, Scale())


def test_a_mean_without_a_bound_is_rarely_missed() -> None:
    """Log-normal costs: no more than one stream in ten."""
    truth = math.exp(0.5 * 0.5**2)
    assert misses(scaled, lambda rng: rng.lognormvariate(0.0, 0.5), truth, alpha=0.1) <= 0.1


def test_equal_sides_of_unequal_size_are_not_told_apart_by_rare_large_values() -> None:
    """One cost in a hundred is twenty times the rest: a small side that has not met one yet is not surely cheaper."""
    wrong = 0
    for seed in range(100):
        rng, scale = Random(seed), Scale()
        large, small = ScaledMean(0.025, scale), ScaledMean(0.025, scale)
        decided = False
        for _ in range(2000):
            side = small if rng.random() < 0.05 else large
            side.add(20.0 if rng.random() < 0.01 else 1.0)
            decided |= small.interval()[1] < large.interval()[0] or large.interval()[1] < small.interval()[0]
        wrong += decided
    assert wrong <= 5


@pytest.mark.parametrize("make", [BoundedMean, scaled])
def test_more_values_narrow_the_interval_around_the_mean(make: Callable[[float], MeanSequence]) -> None:
    """From a hundred to ten thousand values it shrinks by more than a factor of five."""
    rng, mean, widths = Random(1), make(0.05), []
    for count in range(1, 10_001):
        mean.add(rng.random())
        if count in (100, 10_000):
            low, high = mean.interval()
            widths.append(high - low)
            assert low <= mean.mean <= high
    assert widths[0] > 5.0 * widths[1]


def test_a_steady_stream_is_soon_known_to_be_near_its_end() -> None:
    """Two hundred successes out of two hundred: surely above 90 %."""
    mean = BoundedMean(0.05)
    for _ in range(200):
        mean.add(1.0)
    assert mean.interval()[0] > 0.9


@pytest.mark.parametrize("mean", [BoundedMean(0.05), scaled(0.05)])
def test_nothing_is_known_of_nothing(mean: MeanSequence) -> None:
    """Before the first value the interval is everything there is."""
    low, high = mean.interval()
    assert (mean.count, mean.mean) == (0, 0.0)
    assert low <= 0.0
    assert high >= 1.0
