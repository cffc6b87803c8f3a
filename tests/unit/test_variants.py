"""A model plain, quantised, with speculative decoding, compiled, tuned: where each starts, and what is its own."""

from __future__ import annotations

from random import Random

import pytest

from router.complexity.registry import shipped_prior
from router.control.profiles import profile_for
from router.core.controller import Controller
from router.domain.aws.techniques import Technique, techniques
from router.domain.decision import Decision
from router.domain.deployment import Deployment, Tier
from router.domain.request import Prompt, Request, RequestId
from router.learning.quality import QualityModel
from router.learning.variants.descent import QUANTIZATION_DOUBT, descents
from router.learning.variants.effects import effect
from router.learning.variants.young import BASE_KNOWN
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.wiring import controller_for

PRICE = "backend: simulated, price_usd_per_mtok: {input: 1, output: 1}"
BASE = "model: llama-3.1-8b, tier: small"
QUANTISED = "model: llama-awq, tier: small, derived_from: llama-3.1-8b, optimizations: [quantization-awq]"
SPECULATIVE = "model: llama-fast, tier: small, derived_from: llama-3.1-8b, optimizations: [speculative-decoding]"
COMPILED = "model: llama-neuron, tier: small, derived_from: llama-3.1-8b, optimizations: [compilation-neuron]"
TUNED = "model: llama-legal, tier: small, derived_from: llama-3.1-8b, optimizations: [fine-tuning]"
ALL = (BASE, QUANTISED, SPECULATIVE, COMPILED, TUNED)


def text(*deployments: str) -> str:
    return "deployments:\n" + "".join(f"  - {{name: d{i}, {d}, {PRICE}}}\n" for i, d in enumerate(deployments))


def fleet(*deployments: str) -> tuple[Deployment, ...]:
    return compile_policy([("f.yaml", text(*deployments))]).deployments


def controller(*deployments: str) -> Controller:
    documents = [("f.yaml", text(*deployments)), ("c.yaml", "class: {name: default, deadline: 1m}\n")]
    return controller_for(compile_policy(documents), shipped_prior(), rng=Random(0))


def believed(of: Controller) -> list[tuple[float, float]]:
    """P(adequate) and its lower bound of each deployment, in the order of the policy."""
    prompt = Prompt("Prove that there are infinitely many primes of the form 4n + 3.")
    decision = of.decide(of.admit(Request(RequestId("r"), 0.0, 0.0, prompt, 20), now=0.0), now=0.0)
    assert isinstance(decision, Decision)
    found = sorted(decision.candidates, key=lambda candidate: candidate.deployment)
    return [(c.terms.p_adequate, c.terms.p_adequate_low or 0.0) for c in found]


def teach(qualities: QualityModel, model: str, adequate: float, answers: int = 200) -> None:
    for _ in range(answers):
        qualities.observe(0.8, model, "chat", adequate)


def test_entries_are_read_by_their_first_words() -> None:
    """With or without the method; another word says nothing."""
    said = ("quantization-awq", "speculative-decoding", "compilation-neuron", "quantizationish", "pruning")
    assert techniques(said) == {Technique.QUANTIZATION, Technique.SPECULATIVE_DECODING, Technique.COMPILATION}


def test_a_quantised_variant_starts_at_its_bases_quality_with_a_wider_bound() -> None:
    """Also of a base that nothing was learned of; the others that give the same answers are as sure as their base."""
    base, quantised, speculative, compiled, tuned = believed(controller(*ALL))
    assert quantised[0] == tuned[0] == base[0]
    assert quantised[1] < base[1] - 0.01
    assert speculative == compiled == base


def test_what_was_learned_of_the_base_is_where_its_variants_start() -> None:
    """Not for a tuned one, which was made to answer otherwise."""
    one = controller(*ALL)
    before = believed(one)
    teach(one.qualities, "llama-3.1-8b", 0.4)
    base, quantised, speculative, compiled, tuned = believed(one)
    assert base[0] < before[0][0] - 0.1
    assert quantised[0] == base[0]
    assert quantised[1] < base[1]
    assert speculative == compiled == base
    assert tuned == before[4]


def test_a_quantised_variant_earns_its_place_by_measurement() -> None:
    """As many good answers as its base gave bring its bound to that of its base; bad ones bring it down at once."""
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED))
    teach(qualities, "llama-3.1-8b", 0.8)
    base, untold = (qualities.correct(0.8, model, "chat")[1] for model in ("llama-3.1-8b", "llama-awq"))
    assert untold < base - 0.03
    teach(qualities, "llama-awq", 0.8)
    assert qualities.correct(0.8, "llama-awq", "chat")[1] == pytest.approx(base, abs=0.01)

    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED))
    teach(qualities, "llama-3.1-8b", 0.8)
    teach(qualities, "llama-awq", 0.5, answers=20)
    assert qualities.correct(0.8, "llama-awq", "chat")[0] < 0.7
    assert qualities.correct(0.8, "llama-3.1-8b", "chat")[1] == base


def test_a_sure_base_makes_no_variant_that_cannot_learn() -> None:
    """Twenty bad answers move a quantised variant more than one that is taken for the same."""
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED, SPECULATIVE))
    teach(qualities, "llama-3.1-8b", 0.8, answers=1000)
    for model in ("llama-awq", "llama-fast"):
        teach(qualities, model, 0.5, answers=20)
    quantised, speculative = (qualities.correct(0.8, m, "chat")[0] for m in ("llama-awq", "llama-fast"))
    assert quantised < speculative - 0.05


def taught(*told: tuple[str, float]) -> tuple[float, float]:
    """P(adequate) of the quantised model and its lower bound after these answers, in order."""
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED))
    for model, adequate in told:
        qualities.observe(0.9, model, "chat", adequate)
    return qualities.correct(0.9, "llama-awq", "chat")


def test_what_is_learned_of_the_base_later_counts_too() -> None:
    """One bad answer of a variant weighs no more for having come before its base was judged; what comes of a base that
    is known no longer says anything of it."""
    bad, good = ("llama-awq", 0.0), [("llama-3.1-8b", 1.0)] * 90
    before, after = taught(bad, *good), taught(*good, bad)
    assert before == pytest.approx(after, abs=0.01)
    assert before[0] > taught(bad)[0] + 0.02
    known = [("llama-3.1-8b", 1.0)] * BASE_KNOWN
    assert taught(bad, *known) == taught(bad, *known, *known)


def test_a_variant_that_was_judged_much_stands_on_its_own() -> None:
    """More answers than are kept of it: its base says nothing of it any more. A restart counts as that as well."""
    many = [("llama-awq", 0.0)] * 60
    assert taught(*many) == taught(*many, ("llama-3.1-8b", 1.0))
    qualities = QualityModel()
    qualities.descents = descents(fleet(BASE, QUANTISED))
    qualities.observe(0.9, "llama-awq", "chat", 0.0)
    restarted = QualityModel()
    restarted.descents = qualities.descents
    restarted.restore(qualities.state())
    kept = restarted.correct(0.9, "llama-awq", "chat")
    restarted.observe(0.9, "llama-3.1-8b", "chat", 1.0)
    assert restarted.correct(0.9, "llama-awq", "chat") == kept


def test_doubts_add_up_along_a_line_and_a_circle_ends() -> None:
    """A compiled model of a quantised one is as doubtful as that; one that is tuned in between starts anew."""
    compiled = "model: c, tier: small, derived_from: llama-awq, optimizations: [compilation]"
    assert descents(fleet(BASE, QUANTISED, compiled))["c"] == (
        ("llama-awq", 0.0),
        ("llama-3.1-8b", QUANTIZATION_DOUBT),
    )
    assert dict(descents(fleet(BASE, TUNED))) == {}
    circle = fleet(
        "model: a, tier: small, derived_from: b, optimizations: [compilation]",
        "model: b, tier: small, derived_from: a, optimizations: [compilation]",
    )
    assert descents(circle)["a"] == (("b", 0.0), ("a", 0.0))


@pytest.mark.parametrize(
    ("said", "name"),
    [(QUANTISED, "quantization-awq"), (SPECULATIVE, "speculative-decoding"), (COMPILED, None), (TUNED, None)],
)
def test_decoding_starts_faster_by_what_is_documented(said: str, name: str | None) -> None:
    """From the figures of the base; taking the prompt in stays as slow, and so does what nobody documents."""
    base, factor = profile_for("llama-3.1-8b", Tier.SMALL), 1.0
    if name is not None:
        documented = effect(name)
        assert documented is not None
        assert documented.tpot is not None
        factor = documented.tpot.expected
        assert factor < 1.0
    (made,) = fleet(said)
    assert made.step is not None
    assert made.step.base_s == pytest.approx(base.base_s * factor)
    assert made.step.per_sequence_s == pytest.approx(base.per_sequence_s * factor)
    assert made.step.per_prefill_token_s == base.per_prefill_token_s


def test_figures_that_were_chosen_are_left_as_they_are() -> None:
    """`profile` and `step_ms` are of the variant itself."""
    own = "step_ms: {base: 3, per_sequence: 0, per_context_token: 0, per_prefill_token: 0}"
    measured, like = fleet(f"{QUANTISED}, {own}", f"{QUANTISED}, profile: llama-3.1-8b")
    assert measured.step is not None
    assert like.step is not None
    assert measured.step.base_s == 0.003
    assert like.step.base_s == profile_for("llama-3.1-8b", Tier.SMALL).base_s


def test_a_quantised_model_under_its_bases_name_is_told() -> None:
    """What is learned of one would be held of both; a faster copy that answers the same may share the name."""
    same = "model: llama-3.1-8b, tier: small"
    documents = [("f.yaml", text(BASE, f"{same}, optimizations: [quantization-awq]"))]
    (problem,) = find_warnings(documents, compile_policy(documents))
    assert (problem.code, problem.line) == ("variant_unnamed", 3)
    assert "derived_from: llama-3.1-8b" in problem.message
    documents = [("f.yaml", text(BASE, f"{same}, optimizations: [speculative-decoding]"))]
    assert find_warnings(documents, compile_policy(documents)) == ()
