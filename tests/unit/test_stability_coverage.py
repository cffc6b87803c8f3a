"""Whether predictions hold what they say: the interval that covers nine of ten, and who is told when it does not."""

from __future__ import annotations

from random import Random

import pytest
from prometheus_client import CollectorRegistry

from router.core.stability.scores import Scores
from router.domain.control.stability import CoverageChanged, PredictionsScored, TuningChanged
from router.domain.events import HealthChanged, LimitUpdate, PriceUpdate
from router.learning.coverage import Coverage
from router.telemetry.metrics import Metrics
from tests.regressions.house import House


def scored(
    coverage: Coverage, sigma: float, *, until: float, now: float = 0.0, seed: int = 1
) -> list[tuple[float, bool]]:
    """Ten predictions a second, of a spread of 1 where `sigma` was predicted; when `is_off` changed, and to what."""
    rng, changes = Random(seed), []
    while now < until:
        coverage.observe(rng.gauss(0.0, 1.0), 0.0, sigma)
        if coverage.look(now=now):
            changes.append((now, coverage.is_off))
        now += 0.1
    return changes


def test_an_honest_interval_covers_nine_of_ten_and_nothing_is_told() -> None:
    """Over 4,000 predictions."""
    coverage = Coverage()
    assert scored(coverage, 1.0, until=400.0) == []
    assert coverage.ratio == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(("sigma", "covers"), [(0.5, 0.59), (2.5, 1.0)])
def test_intervals_that_are_too_narrow_or_too_wide_for_long_are_told_once(sigma: float, covers: float) -> None:
    """After more than a minute, not before; and once more when they hold again."""
    coverage = Coverage()
    changes = scored(coverage, sigma, until=200.0)
    assert [off for _, off in changes] == [True]
    assert changes[0][0] >= 60.0
    assert coverage.ratio == pytest.approx(covers, abs=0.06)
    assert [off for _, off in scored(coverage, 1.0, now=200.0, until=500.0)] == [False]


def test_predictions_that_are_scored_are_a_metric(house: House) -> None:
    """Inside, over and under since the last tick, and the share inside."""
    registry = CollectorRegistry()
    metrics = Metrics(house.controller.policy, registry)
    handlers = {t: h for s in metrics.subscribers for t, h in s.handlers().items() if t is PredictionsScored}
    handlers[PredictionsScored](PredictionsScored("small", "ttft", 7, 2, 1, 0.88))
    labels = {"deployment": "small", "what": "ttft"}
    assert registry.get_sample_value("router_prediction_coverage_ratio", labels) == 0.88
    assert registry.get_sample_value("router_predictions_total", {**labels, "result": "over"}) == 2.0


@pytest.fixture
def house() -> House:
    return House()


def test_coverage_and_freezes_are_told_with_old_new_and_reason() -> None:
    """The fields that every automatic change has."""
    for event in (CoverageChanged, TuningChanged, HealthChanged, LimitUpdate, PriceUpdate):
        assert {"old", "new", "reason"} <= set(event.__struct_fields__)
    scores = Scores("small")
    for _ in range(250):
        scores.ttft.observe(3.0, 0.0, 1.0)
    told = [e for now in (0.0, 61.0) for e in scores.tick(now=now) if isinstance(e, CoverageChanged)]
    assert [(e.old, e.new) for e in told] == [("holds", "narrow")]
    assert told[0].reason
