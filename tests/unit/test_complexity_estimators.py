"""What every estimator promises, what the untrained one is monotone in, and whose head answers for which model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.complexity.estimator import Estimator, Scored, best_match
from router.complexity.evaluate import request_of
from router.complexity.features import NAMES, USE_CASES
from router.complexity.heuristic import WEIGHTS, HeuristicEstimator
from router.complexity.registry import ESTIMATORS, shipped_prior
from router.domain.deployment import Tier

EASY = "hi, how are you?"
HARD = (
    "Prove that every integer n > 2 is either prime or divisible by a prime, then implement a function that factors n. "
    "Explain each step, assume nothing, and do not use more than 3 variables; the result must be exact, except for "
    "n = 10^12 + 39, where an argument why no polynomial algorithm applies is required.\n```\ndef factor(n): ...\n```"
)


@pytest.fixture(params=sorted(ESTIMATORS), scope="module")
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]()


@given(text=st.text(max_size=200))
@settings(max_examples=40)
def test_every_estimate_is_a_probability(estimator: Estimator, text: str) -> None:
    """Estimates, bounds, complexity and novelty lie in [0,1] for any text; no bound is above its estimate."""
    said = estimator.estimate(request_of(text))
    figures = [*said.estimates.values(), *said.lows.values(), *said.qualities.values(), *said.tiers.values()]
    assert all(0.0 <= figure <= 1.0 for figure in (*figures, said.complexity, said.novelty))
    assert set(said.tiers) == set(Tier)
    assert all(said.low("unheard-of", tier) <= said.of("unheard-of", tier) for tier in Tier)
    assert said.use_case in USE_CASES


def test_the_same_request_gets_the_same_answer(estimator: Estimator) -> None:
    """Estimators have no memory."""
    first = estimator.estimate(request_of(HARD))
    estimator.estimate(request_of(EASY))
    assert estimator.estimate(request_of(HARD)) == first


def test_a_hard_request_is_more_complex_than_a_greeting(estimator: Estimator) -> None:
    """Without any training by the user, a proof with code and constraints is told from small talk."""
    assert estimator.estimate(request_of(HARD)).complexity > estimator.estimate(request_of(EASY)).complexity


def test_evidence_is_names_and_numbers(estimator: Estimator) -> None:
    """What goes in the decision log holds no text of the prompt."""
    features = estimator.estimate(request_of(HARD)).features
    assert features
    assert all(name in NAMES and isinstance(value, float) for name, value in features)


@pytest.mark.parametrize("word", ["integer", "function", "prove", "must", "except", "=", "int main(){}", "七"])
def test_the_heuristic_is_monotone(word: str) -> None:
    """Repeating what makes a task hard never makes it look easier, and costs small more than large."""
    estimator, gaps, chances = HeuristicEstimator(), [], []
    for times in (0, 2, 8):
        said = estimator.estimate(request_of("Tell me about this: " + f"{word} " * times))
        chances.append(said.tiers[Tier.SMALL])
        gaps.append(said.tiers[Tier.LARGE] - said.tiers[Tier.SMALL])
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > chances[-1]
    assert gaps == sorted(gaps)


def test_heuristic_weights_are_harms() -> None:
    """No weight is negative: difficulty can only grow with each feature, and each is a feature."""
    assert all(weight >= 0.0 for weight in WEIGHTS.values())
    assert WEIGHTS.keys() <= set(NAMES)


def test_a_model_nobody_measured_is_taken_as_its_tier() -> None:
    """`of`, `low` and `quality` fall back from model to tier, and from bound and quality to the estimate."""
    tiers = {Tier.SMALL: 0.4, Tier.LARGE: 0.8}
    said = Scored(0.5, "qa", {"m": 0.6}, tiers, lows={"m": 0.5}, tier_lows={Tier.LARGE: 0.7})
    assert (said.of("m", Tier.SMALL), said.low("m", Tier.SMALL), said.quality("m", Tier.SMALL)) == (0.6, 0.5, 0.6)
    assert (said.of("x", Tier.LARGE), said.low("x", Tier.LARGE)) == (0.8, 0.7)
    assert (said.low("x", Tier.SMALL), said.quality("x", Tier.SMALL)) == (0.4, 0.4)


KNOWN = ("meta-llama/llama-3.1-8b-instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview", "qwen2.5-7b")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("llama-3.1-8b", KNOWN[0]),
        ("us.meta.llama3-1-8b-instruct-v1:0", KNOWN[0]),
        ("llama-3.1-8b-acme-legal", KNOWN[0]),
        ("Llama-3.1-70B-Instruct", None),
        ("llama-3.2-8b", None),
        ("mixtral-8x7b", KNOWN[1]),
        ("mistral.mixtral-8x7b-instruct-v0:1", KNOWN[1]),
        ("mixtral-8x22b", None),
        ("gpt-4-1106", KNOWN[2]),
        ("gpt-4-1106-mini", None),
        ("gpt-4o", None),
        ("Qwen/Qwen2.5-7B-Instruct", KNOWN[3]),
        ("", None),
        ("instruct", None),
    ],
)
def test_other_spellings_and_fine_tuned_variants_find_their_model(name: str, match: str | None) -> None:
    """Owner, punctuation and noise words do not matter; size and generation do; a variant inherits from its base."""
    assert best_match(name, KNOWN) == match


def test_the_shipped_prior_compares_like_with_like() -> None:
    """Two models measured on the same prompts get their own heads; two from different worlds get their tiers'."""
    prior = shipped_prior()
    pair = (("mixtral-8x7b", Tier.SMALL), ("gpt-4-1106-preview", Tier.LARGE))
    both = prior.serving(pair).estimate(request_of(HARD))
    assert both.estimates.keys() == {name for name, _ in pair}
    assert both.of("mixtral-8x7b", Tier.SMALL) == pytest.approx(
        prior.estimate(request_of(HARD)).of("mistralai/Mixtral-8x7B-Instruct-v0.1", Tier.SMALL)
    )
    mixed = prior.serving((("mixtral-8x7b", Tier.SMALL), ("google/gemini-2.5-pro", Tier.LARGE)))
    unknown = prior.serving((("mixtral-8x7b", Tier.SMALL), ("unheard-of", Tier.LARGE)))
    assert not mixed.estimate(request_of(HARD)).estimates
    assert not unknown.estimate(request_of(HARD)).estimates


def test_far_from_what_was_seen_the_lower_bound_gives_way() -> None:
    """Words that no training row holds raise novelty, and novelty lowers the bound but not the estimate."""
    prior = ESTIMATORS["prior"]()
    near = prior.estimate(request_of("What is the capital of France and how many people live there?"))
    far = prior.estimate(request_of("Wugs blicketed zorply; framulons quibbed nertly, dax vorpal mimsy?"))
    assert near.novelty < 0.2 < far.novelty
    assert far.low("x", Tier.SMALL) < 0.8 * far.of("x", Tier.SMALL)


def test_the_shipped_prior_is_small() -> None:
    """It travels with the package: under a megabyte and a half."""
    import pkgutil

    data = pkgutil.get_data("router.complexity", "prior.artefact")
    assert data is not None
    assert len(data) < 1_500_000


def test_every_head_of_the_shipped_prior_is_calibrated() -> None:
    """Out of fold over all its training rows, no head's calibration error is over .03."""
    import pkgutil

    from router.complexity.registry import load_artefact

    data = pkgutil.get_data("router.complexity", "prior.artefact")
    assert data is not None
    table = load_artefact(data).lineage.calibration
    assert {row.subject: row.ece for row in table if row.ece > 0.03} == {}
    assert len(table) > 10
