"""Off-policy estimators against a truth that is known, where the predictions are good, wrong, or all there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from router.learning.off_policy import (
    Choice,
    Evidence,
    Reward,
    as_logged,
    doubly_robust,
    effective,
    ips,
    lower_bound,
    snips,
    support,
)
from router.sim.off_policy.conclusion import needed, refusal
from router.sim.off_policy.intervals import Estimate, Intervals

EXPLORED = 0.1
Floats = NDArray[np.float64]
Day = tuple[list[Choice], list[Reward], float]


def day(seed: int, count: int = 1500, *, model: str = "good", share: float = 1.0, arms: int = 2) -> Day:
    """Decisions that mostly go to the first of the arms, a target that goes to the last, and what that truly earns.
    The reward hangs on a context that the good model sees and the wrong one does not."""
    rng = np.random.default_rng(seed)
    context = rng.uniform(0.2, 0.9, size=(count, arms))
    logged = np.full(arms, EXPLORED / arms)
    logged[0] += 1.0 - EXPLORED
    picks = rng.choice(arms, size=count, p=logged)
    earned = rng.random(count) < context[np.arange(count), picks]
    heard = rng.random(count) < share
    guesses = context if model == "good" else np.where(context > 0.5, 0.1, 0.4)
    target = tuple(float(arm == arms - 1) for arm in range(arms))
    choices = [Choice(target, tuple(logged.tolist()), int(pick)) for pick in picks]
    rewards = [
        Reward(tuple(g), float(e) if h else None, share)
        for g, e, h in zip(guesses.tolist(), earned, heard, strict=True)
    ]
    return choices, rewards, float(context[:, -1].mean())


def estimates(choices: list[Choice], rewards: list[Reward]) -> dict[str, Estimate]:
    """Each estimator with its interval, decisions a second apart."""
    evidence = Evidence(choices, rewards)
    count = len(choices)
    wholes, which = np.ones(count), np.arange(count)
    intervals = Intervals([float(i) for i in range(count)])
    size = effective(evidence.weight)
    ratios = {
        "ips": ips(evidence, wholes, most=1.0, widest=1.0),
        "snips": snips(evidence, wholes, most=1.0, widest=1.0),
        "dr": doubly_robust(evidence, wholes, most=1.0, widest=1.0),
    }
    found = {name: intervals.of(ratio, which, effective=size) for name, ratio in ratios.items()}
    return {name: one for name, one in found.items() if one is not None}


def errors(model: str, days: int = 60) -> dict[str, tuple[float, float, float]]:
    """By estimator over many days: mean error, root of the mean square, and the share of intervals that hold."""
    seen: dict[str, list[tuple[float, bool]]] = {"ips": [], "snips": [], "dr": []}
    for seed in range(days):
        choices, rewards, truth = day(seed, model=model)
        for name, one in estimates(choices, rewards).items():
            seen[name].append((one.value - truth, one.low <= truth <= one.high))
    told = {}
    for name, pairs in seen.items():
        off: Floats = np.array([error for error, _ in pairs])
        told[name] = float(off.mean()), math.sqrt(float((off**2).mean())), sum(held for _, held in pairs) / days
    return told


@pytest.fixture(scope="module")
def good() -> dict[str, tuple[float, float, float]]:
    return errors("good")


@pytest.fixture(scope="module")
def wrong() -> dict[str, tuple[float, float, float]]:
    return errors("wrong")


def test_the_intervals_hold(
    good: dict[str, tuple[float, float, float]], wrong: dict[str, tuple[float, float, float]]
) -> None:
    """Of sixty days each, at least 52 intervals of 95 % hold the truth, whatever the model: fewer come one time in
    three hundred where 95 % is true."""
    assert min(coverage for told in (good, wrong) for _, _, coverage in told.values()) >= 52 / 60


def test_a_good_model_makes_doubly_robust_the_best(good: dict[str, tuple[float, float, float]]) -> None:
    """Its error is far below that of IPS, and no more than that of SNIPS."""
    assert good["dr"][1] < 0.6 * good["ips"][1]
    assert good["dr"][1] <= good["snips"][1]


def test_all_are_right_on_average_where_the_model_is_wrong(wrong: dict[str, tuple[float, float, float]]) -> None:
    """The model alone is off by more than .2; no estimator is, on average, by more than its noise."""
    choices, rewards, truth = day(0, model="wrong")
    assert abs(float(Evidence(choices, rewards).expected.mean()) - truth) > 0.2
    for mean, root, _ in wrong.values():
        assert abs(mean) < 3.0 * root / math.sqrt(60)


def test_the_logged_policy_is_told_as_it_was() -> None:
    """A target that is the policy that logged has weights of 1, and all estimators give the plain mean."""
    choices, rewards, _ = day(1)
    same = [Choice(c.logged, c.logged, c.pick) for c in choices]
    evidence = Evidence(same, rewards)
    plain = sum(r.observed or 0.0 for r in rewards) / len(rewards)
    wholes = np.ones(len(same))
    assert ips(evidence, wholes, most=1.0, widest=1.0).value == pytest.approx(plain)
    assert snips(evidence, wholes, most=1.0, widest=1.0).value == pytest.approx(plain)
    certain = Evidence([Choice(_one(c), _one(c), c.pick) for c in choices], rewards)
    assert as_logged(certain, most=1.0, widest=1.0).value == pytest.approx(plain)
    stands = support(evidence)
    assert stands.effective == pytest.approx(len(same))
    assert (stands.moved, stands.unsupported) == (0.0, 0.0)


def _one(choice: Choice) -> tuple[float, ...]:
    return tuple(float(i == choice.pick) for i in range(len(choice.target)))


def test_what_is_told_of_some_counts_for_the_rest() -> None:
    """Feedback of a third of the answers, whatever they were: the interval holds the truth and is wider."""
    whole, part = (day(5, 6000, share=share) for share in (1.0, 1 / 3))
    assert whole[2] == part[2]
    all_told, some_told = (estimates(choices, rewards)["dr"] for choices, rewards, _ in (whole, part))
    assert some_told.low <= part[2] <= some_told.high
    assert some_told.high - some_told.low > 1.3 * (all_told.high - all_told.low)


def test_feedback_that_comes_more_of_one_deployment_does_not_bend_the_mean() -> None:
    """The good deployment is told of seldom, the bad one always; weighed by their shares the mean is that of all."""
    rng = np.random.default_rng(2)
    choices, rewards = [], []
    for _ in range(8000):
        pick = int(rng.random() < 0.5)
        share = (1.0, 0.2)[pick]
        earned = float(rng.random() < (0.3, 0.9)[pick])
        choices.append(Choice(_at(pick), _at(pick), pick))
        rewards.append(Reward((0.5, 0.5), earned if rng.random() < share else None, share))
    told = as_logged(Evidence(choices, rewards), most=1.0, widest=1.0).value
    heard = [r.observed for r in rewards if r.observed is not None]
    assert told == pytest.approx(0.6, abs=0.02)
    assert sum(heard) / len(heard) < 0.45


def _at(pick: int) -> tuple[float, ...]:
    return (1.0 - pick, float(pick))


def test_what_never_had_a_probability_is_bounded_not_guessed() -> None:
    """A third of the target on a deployment without propensity: the interval spans whatever it may have earned."""
    choices = [Choice((2 / 3, 1 / 3), (1.0, 0.0), 0)] * 300
    rewards = [Reward((0.5, 0.9), float(i % 2)) for i in range(300)]
    stands = support(Evidence(choices, rewards))
    assert stands.unsupported == pytest.approx(1 / 3)
    for told in estimates(choices, rewards).values():
        assert told.low < 0.5 * 2 / 3 + 1e-9
        assert told.high > 0.5 * 2 / 3 + 1 / 3 - 1e-9
    assert "33.3% of what it would pick had no chance" in refusal(stands)


def test_a_hundred_kept_promises_do_not_prove_the_next() -> None:
    """Where every reward was 1 the interval still has a width, and more of it where few decisions say so."""
    few, many = (
        estimates([Choice((1.0,), (1.0,), 0)] * count, [Reward((1.0,), 1.0)] * count)["snips"] for count in (100, 1000)
    )
    assert few.value == many.value == 1.0
    assert 0.005 < 1.0 - few.low < 0.05
    assert 1.0 - many.low < 0.2 * (1.0 - few.low)


@pytest.mark.parametrize(("count", "refused"), [(400, True), (8000, False)])
def test_thin_support_is_refused(count: int, refused: bool) -> None:
    """A twentieth of the decisions is too little of four hundred; what is said to be needed is enough."""
    choices, rewards, _ = day(3, count)
    stands = support(Evidence(choices, rewards))
    assert bool(refusal(stands)) is refused
    enough = next(n for n in needed(stands, deployments=2) if n.exploration_ratio == EXPLORED)
    more = support(Evidence(*day(4, round(1.2 * enough.requests))[:2]))
    assert refusal(more) == ""


def test_few_moves_do_not_hide_behind_many_that_stay() -> None:
    """One in ten goes elsewhere, where the log went twice: the whole is well supported, the moves are not."""
    stay, move = Choice((1.0, 0.0), (0.95, 0.05), 0), Choice((0.0, 1.0), (0.95, 0.05), 0)
    choices = [*[stay] * 900, *[move] * 98, *[replace_pick(move)] * 2]
    stands = support(Evidence(choices, [Reward((0.5, 0.5), 1.0)] * 1000))
    assert stands.effective > 300
    assert stands.moved_effective == pytest.approx(2.0)
    assert "of the 10.0% that would go elsewhere" in refusal(stands)


def replace_pick(choice: Choice) -> Choice:
    return Choice(choice.target, choice.logged, 1)


@pytest.mark.parametrize("model", ["good", "wrong"])
def test_the_lower_bound_is_below_the_truth_and_rises(model: str) -> None:
    """However good the predictions; with more decisions it comes nearer."""
    bounds = []
    for count in (1000, 16000):
        choices, rewards, truth = day(7, count, model=model)
        bounds.append(truth - lower_bound(choices, rewards))
    assert 0.0 < bounds[1] < bounds[0]
    assert bounds[1] < 0.15


def test_the_lower_bound_gives_nothing_for_what_has_no_support() -> None:
    """A deployment that was never possible may be worthless, and a missing reward is not taken for a good one."""
    bare = [Choice((0.0, 1.0), (1.0, 0.0), 0)] * 2000
    assert lower_bound(bare, [Reward((1.0, 1.0), 1.0)] * 2000) < 0.01
    assert lower_bound([], []) == 0.0
    backed = [Choice((1.0,), (1.0,), 0)] * 2000
    assert lower_bound(backed, [Reward((0.9,), 1.0)] * 2000, cap=1.0) > 0.95
