"""The price of a quality floor: what it integrates, how far the promise can be missed, and when it says so."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest

from router.core.floor.doubt import FAMILIAR, as_counted
from router.domain.slo import QualityFloor
from router.slo.floor import GAIN, OWED_MOST, FloorPrice
from router.slo.risk import FloorRisk


def price(high: float = 8.0) -> FloorPrice:
    return FloorPrice(QualityFloor(0.9), name="all", high=high)


@pytest.mark.parametrize("seed", range(8))
def test_the_shortfall_is_bounded_whatever_comes(seed: int) -> None:
    """Stretches of answers, good or bad, and verdicts that come late or never: while the price is not at its bound, the
    shortfall it has integrated is at most the price's span over the gain, and what is still owed."""
    rng, floor = Random(seed), price(high=200.0)
    shortfall, told = 0.0, 0.0
    level = 0.5
    for answer in range(3000):
        if answer % 100 == 0:
            level = rng.random()
        quality = min(max(rng.gauss(level, 0.2), 0.0), 1.0)
        assert floor.on_served(quality)
        floor.on_answered("m")
        shortfall += floor.target - quality
        if rng.random() < 0.1:
            rated = dict(floor._rates)["m"]
            rho = min(max((rated[0] + 1.0) / rated[1], 0.02), 1.0)
            verdict = float(rng.random() < level)
            before = floor.owed
            floor.on_verdict("m", quality, verdict)
            told += (floor.owed - before) if abs(floor.owed) >= OWED_MOST else (quality - verdict) / rho
        assert not floor.is_at_bound
        assert shortfall + told <= (floor.value - 0.5) / GAIN + OWED_MOST + 1e-6
        assert shortfall + told <= floor.high / GAIN + OWED_MOST


def test_over_confident_estimates_are_set_right_by_a_share_of_verdicts() -> None:
    """A quality that follows the price, estimates .1 too high, one answer in ten judged: what is served settles at the
    floor; where verdicts are not told it stays .1 below."""

    def served(*, told: bool) -> float:
        rng, floor, got = Random(3), price(), []
        for _ in range(8000):
            true = 0.5 + 0.45 * (1.0 - math.exp(-floor.value))
            adequate = float(rng.random() < true)
            counted = min(true + 0.1, 1.0)
            floor.on_served(counted)
            floor.on_answered("m")
            if told and rng.random() < 0.1:
                floor.on_verdict("m", counted, adequate)
            got.append(adequate)
        return sum(got[4000:]) / 4000

    assert served(told=True) == pytest.approx(0.906, abs=0.03)
    assert served(told=False) == pytest.approx(0.806, abs=0.03)


def test_verdicts_on_right_estimates_move_the_price_nowhere_in_the_long_run() -> None:
    """Doubly robust: calibrated estimates owe nothing on average."""
    rng, floor, owed = Random(4), price(), 0.0
    for _ in range(20_000):
        p = rng.random()
        floor.on_answered("m")
        if rng.random() < 0.2:
            before = floor.owed
            floor.on_verdict("m", p, float(rng.random() < p))
            owed += floor.owed - before
        floor.owed = 0.0
    assert abs(owed) / 20_000 < 0.02


def test_a_verdict_weighs_by_how_seldom_its_model_is_judged() -> None:
    """One in ten judged: each verdict stands for ten answers. Another model's rate is its own."""
    floor = price()
    for answer in range(5000):
        floor.on_answered("seldom")
        floor.on_answered("always")
        floor.on_verdict("always", 0.5, 0.5)
        if answer % 10 == 0:
            floor.on_verdict("seldom", 0.5, 0.5)
    floor.owed = 0.0
    floor.on_verdict("seldom", 1.0, 0.0)
    seldom, floor.owed = floor.owed, 0.0
    floor.on_verdict("always", 1.0, 0.0)
    assert seldom == pytest.approx(10.0, rel=0.1)
    assert floor.owed == pytest.approx(1.0, rel=0.05)


def test_one_verdict_cannot_throw_the_price() -> None:
    """Thousands of bad verdicts at once are owed within bounds, and each answer pays a bounded part."""
    floor = price()
    for _ in range(1000):
        floor.on_answered("m")
    for _ in range(5000):
        floor.on_verdict("m", 1.0, 0.0)
    assert floor.owed == OWED_MOST
    before = floor.value
    floor.on_served(floor.target)
    assert 0.0 < floor.value - before <= 0.5 * GAIN + 1e-9


def test_an_edit_of_the_policy_keeps_the_price_and_what_is_owed() -> None:
    """Another promise keeps the price, but not what was owed to the old one."""
    old = price()
    old.value = 3.0
    old.on_answered("m")
    old.on_verdict("m", 1.0, 0.0)
    same, other = price(), FloorPrice(QualityFloor(0.8), name="all", high=2.0)
    same.go_on_from(old)
    other.go_on_from(old)
    assert (same.value, same.owed) == (3.0, old.owed)
    assert (other.value, other.owed) == (2.0, 0.0)


def served(risk: FloorRisk, count: int, *, p: float = 0.95, novel: bool = False, fallen: bool = False) -> None:
    for _ in range(count):
        risk.on_served(p, p, at_bound=False, fallen=fallen, novel=novel)


def test_a_risk_is_told_once_and_ends_later_than_it_began() -> None:
    """A share of novel prompts around the threshold changes nothing back and forth."""
    risk, told = FloorRisk(), []
    served(risk, 200)
    assert risk.reason(0.9) == ""
    rng = Random(5)
    for _ in range(1000):
        served(risk, 1, novel=rng.random() < 0.3)
        told.append(risk.reason(0.9))
    for _ in range(1000):
        served(risk, 1)
        told.append(risk.reason(0.9))
    assert [told[0], *(b for a, b in pairwise(told) if a != b)] == ["", "novel", ""]


def test_verdicts_that_say_less_are_a_risk() -> None:
    """.95 expected, four of five adequate, a floor of .9; calibrated verdicts are none."""
    for adequate, reason in ((0.8, "feedback"), (0.95, "")):
        risk, rng = FloorRisk(), Random(6)
        served(risk, 200)
        for _ in range(150):
            risk.on_verdict(0.95 - float(rng.random() < adequate))
        assert risk.reason(0.9) == reason


def test_a_fallen_model_and_a_price_at_its_bound_are_risks() -> None:
    """The bound counts only where too little is served well."""
    risk = FloorRisk()
    served(risk, 200, fallen=True)
    assert risk.reason(0.9) == "fallen"
    for counted, reason in ((0.7, "price_at_bound"), (0.97, "")):
        bound = FloorRisk()
        for _ in range(100):
            bound.on_served(counted, counted, at_bound=True, fallen=False, novel=False)
        assert bound.reason(0.9) == reason


def test_doubt_grows_with_novelty_and_spares_the_best() -> None:
    """Familiar prompts count as estimated, strange ones as their lower bound; the likeliest model is never doubted."""
    counted = [as_counted(0.7, 0.3, 0.95, novelty) for novelty in (0.0, FAMILIAR, 0.2, 0.3, 0.4, 1.0)]
    assert counted[0] == counted[1] == 0.7
    assert counted == sorted(counted, reverse=True)
    assert counted[-2] == counted[-1] == pytest.approx(0.3)
    assert as_counted(0.95, 0.3, 0.95, 1.0) == 0.95


def test_a_price_that_is_only_said_goes_on_over_an_edit() -> None:
    """Under `mode: advise` an edit leaves what is said as it was, and what is in force where it starts."""
    floor = price()
    floor.advise()
    for _ in range(200):
        floor.on_served(0.5)
    said = floor.value
    edited = price()
    edited.go_on_from(floor)
    edited.advise()
    assert edited.value == said > edited.in_force
