"""Metrics of an estimator as a two-model router, on examples worked by hand."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.complexity.estimator import Scored
from router.complexity.evaluate import area, auc, call_share, ece, evaluate, recovered
from router.complexity.outcomes import Example, Observed, adequacy, read_outcomes
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.domain.request import Request


def array(*values: float) -> np.ndarray:
    return np.array(values, float)


def example(prompt: str, small: float, large: float, source: str = "s") -> Example:
    return Example(prompt, {"S": Observed(small), "L": Observed(large)}, source)


class Told:
    """An estimator that reads P(small adequate) off the prompt; large is always thought adequate."""

    def estimate(self, request: Request) -> Scored:
        p = float(request.prompt.last_user.split()[0])
        return Scored(1.0 - p, "qa", {"S": p, "L": 1.0}, {Tier.SMALL: p, Tier.LARGE: 1.0})


def run(examples: list[Example], small: str = "S", large: str = "L"):
    clock = count(step=5000)
    return evaluate(examples, Told(), small=small, large=large, clock_ns=lambda: next(clock))


def test_apgr_of_a_perfect_order_by_hand() -> None:
    """Gains 1, 1, 0, 0 in score order recover 0, .5, 1, 1, 1 of the gap: four trapezoids of .25, .75, 1, 1."""
    cuts = recovered(array(0.9, 0.8, 0.2, 0.1), array(1, 1, 0, 0))
    assert cuts.tolist() == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert area(cuts) == pytest.approx((0.25 + 0.75 + 1.0 + 1.0) / 4)


def test_apgr_of_the_worst_order_by_hand() -> None:
    """The same gains in the opposite order: 0, 0, 0, .5, 1."""
    assert area(recovered(array(0.1, 0.2, 0.8, 0.9), array(1, 1, 0, 0))) == pytest.approx(1.0 / 4)


def test_negative_gains_let_apgr_pass_one() -> None:
    """Prompts where large does worse, kept for the end, lift the curve above 1 before it comes back."""
    cuts = recovered(array(3, 2, 1), array(1, 1, -1))
    assert cuts.tolist() == [0.0, 1.0, 2.0, 1.0]


def test_equal_scores_share_their_gain() -> None:
    """A constant score is worth exactly 1/2, in whatever order the rows come."""
    gains = array(0, 0, 1, 1, 0, 1)
    assert area(recovered(np.zeros(6), gains)) == pytest.approx(0.5)
    assert area(recovered(np.zeros(6), gains[::-1])) == pytest.approx(0.5)


def test_cpt_is_the_least_share_of_calls_that_reaches_the_level() -> None:
    """Half of the gap is first reached after one of four calls, 80 % and 95 % after two."""
    cuts = array(0.0, 0.5, 1.0, 0.9, 1.0)
    assert [call_share(cuts, level) for level in (0.5, 0.8, 0.95)] == [25.0, 50.0, 50.0]


def test_auc_counts_ties_half() -> None:
    """Two positives against two negatives: three pairs won and one tie are 3.5 of 4."""
    assert auc(array(0.9, 0.5, 0.5, 0.1), np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
    assert auc(array(0.1, 0.9), np.array([True, True])) is None


def test_ece_by_hand() -> None:
    """Twenty rows said .5 of which 3 in 4 are true, in ten bins of two: every bin's gap counts by its size."""
    p = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    assert ece(p, np.repeat(array(0, 1), 10)) == pytest.approx(np.abs(p - np.repeat(array(0, 1), 10)).mean())
    assert ece(np.full(40, 0.5), np.tile(array(0, 1, 0, 1), 10)) == pytest.approx(0.0)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=2, max_size=40))
def test_auc_equals_the_share_of_pairs_won(rows: list[tuple[float, bool]]) -> None:
    """The rank formula agrees with comparing every pair."""
    score, positive = np.array([s for s, _ in rows]), np.array([b for _, b in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert auc(score, positive) == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_evaluation_pools_rows_and_keeps_sources_apart() -> None:
    """Overall pools all rows; a source has its own figures; fewer than 50 rows have no metrics."""
    good = [example(f"{0.01 * i} x", float(i >= 30), 1.0, "many") for i in range(60)]
    few = [example("0.5 x", 0.0, 1.0, "few") for _ in range(10)]
    result = run(good + few)
    assert (result.overall.n, result.by_source["many"].n, result.by_source["few"].n) == (70, 60, 10)
    many = result.by_source["many"]
    assert (many.small_mean, many.large_mean) == (0.5, 1.0)
    assert many.apgr == pytest.approx(0.75)
    assert many.auc == 1.0
    assert (many.cpt50, many.cpt80, many.cpt95) == (25.0, 40.0, pytest.approx(100 * 29 / 60))
    assert result.by_source["few"].apgr is result.by_source["few"].auc is None
    assert result.by_source["few"].ece == {"S": None, "L": None}
    assert result.overall.predict_us_p50 == 5.0


def test_no_gap_no_metrics() -> None:
    """Where large is not better on average there is nothing to recover."""
    assert run([example("0.5 x", 1.0, 1.0) for _ in range(60)]).overall.apgr is None


def test_rows_without_both_models_are_left_out() -> None:
    """Only prompts that both models answered count; none at all is an error."""
    rows = [example("0.5 x", 0.0, 1.0)] * 50 + [Example("0.5 y", {"S": Observed(1.0)})]
    assert run(rows).overall.n == 50
    with pytest.raises(RouterError, match="both"):
        run(rows, small="S", large="unheard-of")


def test_adequacy_where_truth_is_right_or_wrong() -> None:
    """0/1 truth: right is adequate, whatever the reference did."""
    rows = [example("a", 1.0, 0.0), example("b", 0.0, 0.0)]
    assert adequacy(rows, "L") == [{"S": True, "L": False}, {"S": False, "L": False}]


def test_adequacy_where_truth_is_graded() -> None:
    """Graded truth: at least as good as the reference; 0.5 where none is named. Sources are judged apart."""
    rows = [example("a", 0.7, 0.8, "g"), example("b", 0.9, 0.8, "g"), example("c", 1.0, 0.0, "binary")]
    assert adequacy(rows, "L") == [{"S": False, "L": True}, {"S": True, "L": True}, {"S": True, "L": False}]
    assert adequacy(rows, None)[0] == {"S": True, "L": True}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{", "truncated"),
        (b'{"prompt": "x"}', "outcomes"),
        (b'{"prompt": "x", "outcomes": {"m": {"quality": 2}}}', "quality of m"),
        (b'{"prompt": 7, "outcomes": {}}', "prompt"),
        (b"\xff", "m.jsonl:2"),
    ],
)
def test_a_bad_line_is_named(line: bytes, what: str) -> None:
    """The error says file, line and what is wrong."""
    with pytest.raises(RouterError, match=r"m\.jsonl:2") as caught:
        read_outcomes([b'{"prompt": "x", "outcomes": {"m": {"quality": 1}}}', line], "m.jsonl")
    assert what in str(caught.value)


def test_an_empty_file_is_an_error() -> None:
    """No outcomes are not a training set."""
    with pytest.raises(RouterError, match="no outcomes"):
        read_outcomes([b"", b"\n"], "m.jsonl")
