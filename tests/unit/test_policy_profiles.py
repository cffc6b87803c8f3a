from __future__ import annotations

import pytest

from router.control.profiles import family, known_families, profile_for
from router.domain.deployment import Tier


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("llama-3.1-8b", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("llama3.1:70b", "llama-3.1-70b"),
        ("llama3:8b", "llama-3-8b"),
        ("meta.llama3-1-70b-instruct-v1:0", "llama-3.1-70b"),
        ("us.meta.llama3-3-70b-instruct-v1:0", "llama-3.3-70b"),
        ("Qwen/Qwen3-32B", "qwen-3-32b"),
        ("llama-3.1-405b", None),
        ("qwen2.5-14b", None),
        ("gpt-4o", None),
        ("", None),
    ],
)
def test_a_model_is_known_by_any_of_its_usual_names(model: str, known: str | None) -> None:
    """Hugging Face, Ollama and Bedrock spell one model differently; a size that nobody measured is unknown."""
    assert family(model) == known


def test_the_figures_are_those_of_the_sources() -> None:
    """Llama 3.1 on H100s: decode from ML.ENERGY's vLLM runs, prefill from Vidur's profiles, in seconds."""
    small, large = profile_for("llama-3.1-8b", Tier.SMALL), profile_for("llama-3.1-70b", Tier.LARGE)
    assert (small.base_s, small.per_sequence_s) == pytest.approx((6.6746e-3, 58.176e-6))
    assert (small.per_context_token_s, small.per_prefill_token_s) == pytest.approx((32e-9, 20.9e-6))
    assert (large.base_s, large.per_sequence_s) == pytest.approx((16.4034e-3, 80.096e-6))
    assert (large.per_context_token_s, large.per_prefill_token_s) == pytest.approx((23e-9, 65e-6))


@pytest.mark.parametrize("tier", list(Tier))
def test_an_unknown_model_is_expected_to_be_as_slow_as_the_slowest_known_of_its_tier(tier: Tier) -> None:
    """The prior never promises more than the slowest measured model of the tier gave, and says that it is a prior."""
    prior = profile_for("never-heard-of-it", tier)
    sizes = {Tier.SMALL: ("8b", "14b"), Tier.LARGE: ("70b",)}[tier]
    measured = [profile_for(m, tier) for m in known_families() if m.endswith(sizes)]
    assert prior.source.startswith(f"prior of the {tier} tier")
    for known in measured:
        assert prior.base_s >= known.base_s
        assert prior.per_sequence_s >= known.per_sequence_s
        assert prior.per_context_token_s >= known.per_context_token_s
        assert prior.per_prefill_token_s >= known.per_prefill_token_s
