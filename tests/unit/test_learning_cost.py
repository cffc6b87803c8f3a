"""What a call will cost, learned from what calls cost."""

from __future__ import annotations

import math
from random import Random

import pytest

from router.learning.cost import CostModel


def spend(model: CostModel, usd: float, count: int, rng: Random, *, forecast: float = 0.0, slope: float = 0.0) -> int:
    """Calls around a cost with a spread of 40 %; how many jumps were told."""
    jumps = 0
    for _ in range(count):
        tokens = rng.randrange(50, 800)
        cost = usd * (tokens / 150.0) ** slope * math.exp(rng.gauss(0.0, 0.4) - 0.08)
        jumps += model.observe(tokens, cost, forecast)
    return jumps


def test_the_mean_is_right_not_the_median() -> None:
    """With and without a forecast, 300 calls bring the expectation within a tenth of the mean, and nothing jumps."""
    for forecast in (None, math.log(2e-4)):
        model = CostModel(has_forecast=forecast is not None)
        assert spend(model, 3e-4, 300, Random(1), forecast=forecast or 0.0) <= 1
        assert model.expect(150, forecast or 0.0) == pytest.approx(3e-4, rel=0.1)


def test_the_slope_in_tokens_is_learned() -> None:
    """Where cost grows with the prompt, a long prompt is expected to cost more."""
    model = CostModel(has_forecast=False)
    spend(model, 3e-4, 400, Random(2), slope=1.0)
    assert model.expect(600) / model.expect(75) == pytest.approx(8.0, rel=0.35)


def test_a_price_that_jumps_is_followed_within_twenty_calls() -> None:
    """Ten times dearer after 200 calls: the expectation is near it twenty calls later."""
    model, rng = CostModel(has_forecast=True), Random(3)
    spend(model, 3e-4, 200, rng, forecast=math.log(3e-4))
    assert spend(model, 3e-3, 20, rng, forecast=math.log(3e-4)) >= 1
    assert 1.5e-3 < model.expect(150, math.log(3e-4)) < 6e-3


def test_without_forecast_nothing_is_known_before_the_first_call() -> None:
    """One call is ground enough for a first forecast."""
    model = CostModel(has_forecast=False)
    assert not model.is_known
    model.observe(150, 2e-4)
    assert model.is_known
    assert 1e-4 < model.expect(150) < 4e-4
