"""The figures, charts and words that a report of an evaluation is made of."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from router.cli.report.charts import Axis, Chart, Frame, Mark, draw
from router.cli.report.reasons import shorten
from router.complexity.assessment.curves import reliability, tradeoff, worst_misses
from router.complexity.assessment.importance import CHARS, WORDS, feature_groups, importance
from router.complexity.assessment.intervals import uncertainty
from router.complexity.assessment.rows import Rows
from router.complexity.assessment.weights import spelled, top_weights
from router.complexity.evaluate import area, ece, recovered
from router.complexity.outcomes import Example
from router.complexity.trained import DENSE, TrainedEstimator
from tests.unit.evaluated_rows import examples, model


def rows(score: list[float], gain: list[float]) -> Rows:
    quality = np.column_stack((np.zeros(len(gain)), gain))
    expected = np.column_stack((np.zeros(len(score)), score))
    made = tuple(Example("x " * (n + 1), {}) for n in range(len(gain)))
    return Rows(made, quality, quality, np.full(quality.shape, 0.5), expected, quality * 2.0)


def test_the_drawn_curve_has_the_area_that_apgr_measures() -> None:
    """Router, random and oracle, ties included, from one set of rows: areas .., 1/2 and the oracle's own."""
    made = rows([0.9, 0.2, 0.2, 0.1], [1.0, 1.0, 0.0, 0.0])
    drawn = tradeoff(made)
    assert drawn.router.quality.tolist() == [0.0, 0.25, 0.375, 0.5, 0.5]
    assert drawn.router.cost is not None
    assert drawn.router.cost.tolist() == [0.0, 0.5, 0.75, 1.0, 1.0]
    assert area(drawn.router.quality / 0.5) == pytest.approx(area(recovered(made.score, made.gain)))
    assert area(drawn.random.quality / 0.5) == pytest.approx(0.5)
    assert drawn.oracle_apgr == pytest.approx((0.25 + 0.75 + 1.0 + 1.0) / 4)


def test_reliability_bins_hold_every_row_and_give_the_ece() -> None:
    """Ten bins of equal size whose gaps, weighed by size, are the calibration error; intervals hold the share."""
    rng = np.random.default_rng(0)
    p = rng.random(95)
    true = (rng.random(95) < p).astype(float)
    told = reliability("m", p, true)
    assert [b.rows for b in told.bins] == [10] * 5 + [9] * 5
    assert sum(b.rows * abs(b.said - b.true) for b in told.bins) / 95 == pytest.approx(ece(p, true)) == told.ece
    assert all(0.0 <= b.low <= b.true <= b.high <= 1.0 for b in told.bins)
    assert told.brier == pytest.approx(np.mean((p - true) ** 2))


def test_misses_are_the_rows_that_were_most_wrong() -> None:
    """Underestimated and overestimated apart, worst first; a row that was right is neither."""
    worst = worst_misses(rows([0.1, 0.9, 0.5, 0.2], [1.0, 0.0, 0.5, 0.8]), 2)
    assert (worst.too_low, worst.too_high) == ((0, 3), (1,))


def test_shuffling_what_the_router_goes_by_costs_apgr_and_the_rest_nothing() -> None:
    """Heads that read the length alone lose by `size` and by no other group."""
    made = examples(120)
    quality = np.array([[e.outcomes["S"].quality, 1.0] for e in made])
    estimator = TrainedEstimator(model())
    evaluated = Rows(tuple(made), quality, quality, quality, quality, None)
    found = importance(evaluated, estimator, small="S", large="L", rng=np.random.default_rng(0))
    assert found is not None
    assert found.groups[0].group == "size"
    assert found.groups[0].low > 0.05
    assert all(one.fall == one.low == one.high == 0.0 for one in found.groups[1:])
    assert {WORDS, CHARS} < {one.group for one in found.groups}


def test_every_dense_feature_is_in_one_group() -> None:
    """None is left out and none is shuffled twice."""
    assert sorted(index for group in feature_groups().values() for index in group) == list(range(DENSE))


def test_a_long_prompt_keeps_its_beginning_and_its_end() -> None:
    """The question often comes last."""
    short = shorten("begin " + "x" * 5000 + " end")
    assert len(short) < 400
    assert short.startswith("begin")
    assert short.endswith(" end")


def test_labels_stay_inside_the_picture() -> None:
    """A mark at the right edge is written to its left; a title is escaped."""
    frame = Frame(Axis("x", 0.0, 1.0), Axis("y", 0.0, 1.0))
    figure = draw(Chart("c", "a < b", "told", frame, marks=[Mark("fixed", 1.0, 0.5, "always large")]))
    assert "a &lt; b" in figure
    (svg,) = re.findall(r"<svg.*</svg>", figure, re.DOTALL)
    texts = ET.fromstring(svg).iter("text")
    (label,) = [text for text in texts if text.text == "always large"]
    assert label.get("text-anchor") == "end"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.677, 0.865), (-0.08, 0.06), (2.9e-5, 1.5e-2), (3.0, 70.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    """Three to eleven ticks, evenly spaced, between the ends."""
    ticks = Axis("x", low, high).ticks()
    assert 3 <= len(ticks) <= 11
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


@pytest.mark.parametrize(("low", "high"), [(2.9e-5, 1.5e-2), (0.8, 30.0), (0.02, 0.9)])
def test_ticks_of_a_logarithmic_axis_are_round_and_inside(low: float, high: float) -> None:
    """Two to eight, each one digit and zeros; equal ratios lie equally far apart."""
    axis = Axis("x", low, high, log=True)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high and float(f"{tick:.0e}") == pytest.approx(tick) for tick in ticks)
    assert axis.place(2 * low) - axis.place(low) == pytest.approx(axis.place(high) - axis.place(high / 2))


def test_the_interval_of_apgr_covers_and_narrows_with_rows() -> None:
    """It holds the figure of the rows, is about 1/sqrt(n) wide, and there is none without a gap or with few rows."""
    rng = np.random.default_rng(1)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        score = rng.random(count)
        return score, (rng.random(count) < 0.2 + 0.5 * score).astype(float)

    widths = []
    for count in (200, 3200):
        score, gain = drawn(count)
        sure = uncertainty(score, gain, np.random.default_rng(0))
        assert sure is not None
        assert sure.apgr.low < area(recovered(score, gain)) < sure.apgr.high
        assert all(low <= high for low, high in zip(sure.low, sure.high, strict=True))
        widths.append(sure.apgr.high - sure.apgr.low)
    assert 2.5 < widths[0] / widths[1] < 6.0
    score, gain = drawn(60)
    assert uncertainty(score[:40], gain[:40], rng) is None
    assert uncertainty(score, -gain, rng) is None


def test_prompts_with_equal_scores_are_neither_luck_nor_skill() -> None:
    """One score for all is random mixing, whatever is drawn."""
    sure = uncertainty(np.zeros(100), np.repeat([1.0, 0.0], 50), np.random.default_rng(0))
    assert sure is not None
    assert (sure.apgr.low, sure.apgr.high) == pytest.approx((0.5, 0.5))


def test_weights_are_those_of_the_linear_member() -> None:
    """Length alone, away from small: one row, the head's weight through blend and calibration."""
    (weight,) = top_weights(TrainedEstimator(model()), small="S", large="L", most=5)
    assert weight.feature == "words, logarithm"
    assert weight.small == pytest.approx(-8.0 * 0.25 * 4.0)
    assert weight.large == 0.0
    assert weight.towards_large == pytest.approx(8.0)


@pytest.mark.parametrize(
    "name", ["share_negation", "says___", "says_of_the_following", "opens_which", "log_chars", "wh"]
)
def test_a_feature_is_named_in_words(name: str) -> None:
    """No prefix of the code is left, and no name is empty."""
    told = spelled(name)
    assert told
    assert told != name
    assert not told.startswith(("share_", "says_", "opens_", "log_"))
    assert "“”" not in told
