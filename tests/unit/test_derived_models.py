"""A model made from another one: what is expected of it starts where its base is, what is learned is its own."""

from __future__ import annotations

import pytest

from router.complexity.estimator import lineage
from router.complexity.registry import shipped_prior
from router.control.profiles import profile_for
from router.domain.deployment import Deployment, Tier
from router.domain.request import Prompt, Request, RequestId
from router.learning.quality import QualityModel
from router.policy.compile import compile_policy
from router.wiring import estimator_for

PRICE = "backend: simulated, price_usd_per_mtok: {input: 1, output: 1}"
HARD = Request(RequestId("r"), 0.0, 0.0, Prompt("Prove that there are infinitely many primes of the form 4n + 3."), 20)


def fleet(*deployments: str) -> tuple[Deployment, ...]:
    text = "deployments:\n" + "".join(f"  - {{name: d{i}, {d}, {PRICE}}}\n" for i, d in enumerate(deployments))
    return compile_policy([("f.yaml", text)]).deployments


@pytest.mark.parametrize(
    ("said", "like"),
    [
        ("model: legal, derived_from: llama-3.1-8b", "llama-3.1-8b"),
        ("model: qwen3-32b-legal, derived_from: llama-3.1-8b", "qwen3-32b"),
        ("model: legal, derived_from: llama-3.1-8b, profile: llama-3.1-70b", "llama-3.1-70b"),
        ("model: legal, derived_from: unheard-of", "unheard-of"),
    ],
)
def test_speed_starts_at_the_figures_of_the_base(said: str, like: str) -> None:
    """Own figures, by name or by `profile`, come first; a base that nobody measured helps nothing."""
    (derived,) = fleet(f"tier: small, {said}")
    expected = profile_for(like, Tier.SMALL)
    assert derived.step is not None
    assert (derived.step.base_s, derived.step.per_prefill_token_s) == (expected.base_s, expected.per_prefill_token_s)
    assert derived.step.source == expected.source


def test_own_step_figures_stand_over_the_base() -> None:
    """The operator measured them."""
    own = "step_ms: {base: 3, per_sequence: 0, per_context_token: 0, per_prefill_token: 0}"
    (derived,) = fleet(f"tier: small, model: legal, derived_from: llama-3.1-8b, {own}")
    assert derived.step is not None
    assert (derived.step.base_s, derived.step.source) == (0.003, "policy")


def test_quality_starts_at_the_estimate_of_the_base() -> None:
    """For a model that the estimator does not know, also through another that is derived; not for one it knows."""
    mixtral = "model: mixtral-8x7b, tier: small"
    gpt = "model: gpt-4-1106-preview, tier: large"
    made = "model: made, tier: small, derived_from: mixtral-8x7b"
    remade = "model: remade, tier: large, derived_from: made"
    known = "model: gpt-4-1106-preview, tier: large, derived_from: mixtral-8x7b"
    scored = estimator_for(shipped_prior(), fleet(mixtral, gpt, made, remade)).estimate(HARD)
    base, other = scored.estimates["mixtral-8x7b"], scored.estimates["gpt-4-1106-preview"]
    assert scored.estimates["made"] == scored.estimates["remade"] == base != other
    assert scored.low("made", Tier.SMALL) == scored.low("mixtral-8x7b", Tier.SMALL)
    assert estimator_for(shipped_prior(), fleet(mixtral, known)).estimate(HARD).estimates[
        "gpt-4-1106-preview"
    ] == pytest.approx(other)


def test_without_a_base_an_unknown_model_is_one_of_its_tier() -> None:
    """As before."""
    scored = estimator_for(shipped_prior(), fleet("model: made, tier: small")).estimate(HARD)
    assert scored.of("made", Tier.SMALL) == scored.tiers[Tier.SMALL]


def test_what_is_learned_of_it_is_its_own() -> None:
    """Feedback on the derived model does not move its base."""
    qualities = QualityModel()
    for _ in range(20):
        qualities.observe(0.6, "made", "chat", 0.0)
    assert qualities.correct(0.6, "made", "chat")[0] < 0.3
    assert qualities.correct(0.6, "base", "chat")[0] == pytest.approx(0.6)


def test_models_derived_from_each_other_end() -> None:
    """A circle is walked once."""
    assert list(lineage("a", {"a": "b", "b": "a"})) == ["a", "b"]
    assert list(lineage("a", {"a": "a"})) == ["a"]
    assert list(lineage("a", {})) == ["a"]
