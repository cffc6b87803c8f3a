"""What one model's answers teach: how far its estimates are off, that it fell, that it rose; and what is kept."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.learning.belief import Belief
from router.learning.quality import QualityModel
from router.stats.normal import logit, sigmoid

GOOD, BAD = 0.93, 0.75


def teach(belief: Belief, quality: float, count: int, rng: Random, *, spread: float = 0.1) -> list[str]:
    """Answers around a quality, where 0.93 is expected; what each showed."""
    z = logit(GOOD)
    return [belief.learn(z, z, "chat", min(max(rng.gauss(quality, spread), 0.0), 1.0)) for _ in range(count)]


def expected(belief: Belief, estimate: float = GOOD) -> float:
    z = logit(estimate)
    return sigmoid(z + belief.shift(z, z, "chat")[0])


def test_a_wrong_prior_is_set_right_and_is_no_fall() -> None:
    """A hundred answers bring an estimate of 0.93 to a truth of 0.6, from the start, without an alarm."""
    belief = Belief()
    assert not any(teach(belief, 0.6, 100, Random(1)))
    assert expected(belief) == pytest.approx(0.6, abs=0.05)


def test_the_slope_is_learned() -> None:
    """Where the estimate tells nothing, the difference between two estimates shrinks."""
    belief, rng = Belief(), Random(2)
    for _ in range(600):
        z = logit(rng.choice((0.5, 0.9)))
        belief.learn(z, z, "chat", float(rng.random() < 0.7))
    assert expected(belief, 0.9) - expected(belief, 0.5) < 0.25


def test_truth_that_scatters_less_than_a_coin_teaches_faster() -> None:
    """Continuous quality near its mean ends with less variance than right or wrong of the same mean."""
    fine, coarse, rng = Belief(), Belief(), Random(3)
    teach(fine, 0.8, 200, rng, spread=0.05)
    for _ in range(200):
        coarse.learn(logit(GOOD), logit(GOOD), "chat", float(rng.random() < 0.8))
    assert fine.dispersion < 0.3 < coarse.dispersion
    assert fine.shift(2.0, 2.0, "chat")[1] < coarse.shift(2.0, 2.0, "chat")[1]


def test_a_fall_is_seen_within_thirty_answers_and_forgotten_when_the_model_rises() -> None:
    """From 0.93 to 0.75 after 200 answers, back after at most twenty good ones, and known as before."""
    for seed in range(10):
        belief, rng = Belief(), Random(seed)
        assert not any(teach(belief, GOOD, 200, rng))
        before = expected(belief)
        told = teach(belief, BAD, 30, rng)
        assert told.count("fell") == 1
        assert "rose" not in told
        assert belief.fallen
        told = teach(belief, GOOD, 20, rng)
        assert told.count("rose") == 1
        assert not belief.fallen
        assert expected(belief) == pytest.approx(before, abs=0.04)


def test_a_model_that_stays_down_is_no_longer_fallen() -> None:
    """After two hundred answers the new level is what the model is."""
    belief, rng = Belief(), Random(4)
    teach(belief, GOOD, 100, rng)
    teach(belief, BAD, 100, rng)
    assert belief.fallen
    teach(belief, BAD, 150, rng)
    assert not belief.fallen
    assert expected(belief) == pytest.approx(BAD, abs=0.05)


def test_steady_coins_raise_no_alarm() -> None:
    """Ten thousand answers that are right as often as expected: at most one is taken for a fall."""
    belief, rng, alarms = Belief(), Random(5), 0
    for _ in range(10_000):
        p = rng.choice((0.6, 0.8, 0.95))
        alarms += bool(belief.learn(logit(p), logit(p), "chat", float(rng.random() < p)))
    assert alarms <= 2


observations = st.lists(st.tuples(st.floats(0.0, 1.0), st.sampled_from("abc"), st.floats(0.0, 1.0)), max_size=150)


@given(observations)
def test_a_belief_stays_one_whatever_it_is_told(told: list[tuple[float, str, float]]) -> None:
    """The bound stays below the estimate, and the checkpoint of any state can be taken up and says the same."""
    model = QualityModel()
    for estimate, kind, quality in told:
        model.observe(estimate, "m", kind, quality, common=0.5)
    again = QualityModel()
    again.restore(model.state())
    for estimate in (0.0, 0.3, 1.0):
        p, low = model.correct(estimate, "m", "a", common=0.5)
        assert 0.0 <= low <= p <= 1.0
        assert again.correct(estimate, "m", "a", common=0.5) == pytest.approx((p, low))


def test_an_old_checkpoint_is_read() -> None:
    """An offset and its variance, as they were kept before there were slopes."""
    model = QualityModel()
    model.restore({"m\t": [-1.0, 0.1], "m\tchat": [0.5, 0.05]})
    assert model.correct(0.8, "m", "chat")[0] == pytest.approx(sigmoid(logit(0.8) - 0.5))


@pytest.mark.parametrize(
    "rows",
    [
        {"m\t": [1.0, 2.0, 3.0]},
        {"m\t": [float("nan"), 0.1]},
        {"m\t": [0.0, 0.0, 0.0, 0.1, 0.2, 0.0, 0.1, 0.0, 0.1, 1.0, 5.0]},
        {"m\t": [0.0, 0.0, 0.0, -0.1, 0.0, 0.0, 0.1, 0.0, 0.1, 1.0, 5.0]},
        {"m\tchat": [0.0]},
    ],
)
def test_what_is_no_belief_is_refused(rows: dict[str, list[float]]) -> None:
    """Wrong lengths, numbers that are none, and matrices that are no covariance."""
    with pytest.raises(ValueError, match=r".+"):
        QualityModel().restore(rows)


def test_feedback_tells_that_a_model_fell() -> None:
    """`observe` says so, for whoever wants to tell an operator."""
    model = QualityModel()
    for _ in range(100):
        assert model.observe(0.9, "m", "chat", 0.95) == ""
    assert "fell" in [model.observe(0.9, "m", "chat", 0.4) for _ in range(20)]
