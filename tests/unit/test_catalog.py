"""The catalogue of optimisations, what it predicts, and what `router catalog` says of it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from bench.traffic import policy, request_events
from router.cli.catalog import catalog
from router.domain.errors import RouterError
from router.domain.events import RequestEnded
from router.domain.slo import Indicator, Objective
from router.learning.variants.catalogue import Fact, catalogue
from router.learning.variants.effects import EFFECTS, effect, offered
from router.learning.variants.predict import Times, Verdict, predict
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import decision_folder

RUNNER = CliRunner(env={"COLUMNS": "220", "NO_COLOR": "1"})
AWQ, SPECULATIVE, NEURON = EFFECTS
POLICY = """
deployments:
  - {name: llama, model: llama-3-70b-instruct, tier: large, backend: simulated, profile: llama-3-70b,
     price_usd_per_mtok: {input: 1, output: 1}}
  - {name: llama-fast, model: llama-3-70b-fast, tier: large, backend: simulated, derived_from: llama-3-70b-instruct,
     optimizations: [speculative-decoding], price_usd_per_mtok: {input: 1, output: 1}}
classes:
  - {name: chat, objectives: {tpot: {threshold: 14ms, target: 95%}}}
"""


def test_the_catalogue_has_what_aws_lists() -> None:
    """73 models; what is compiled or optimised already is as listed, and what is not said is not made up."""
    shipped = catalogue()
    assert len(shipped.models) == 73
    assert sum(e.says(Fact.PRE_OPTIMIZED) is True for e in shipped.models) == 11
    assert sum(e.says(Fact.PRE_COMPILED) is True for e in shipped.models) == 8
    (phi,) = shipped.find("phi-2")
    assert phi.says(Fact.QUANTIZATION) is True
    assert phi.says(Fact.SPECULATIVE_DECODING) is None
    assert len({e.id for e in shipped.models}) == 73


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("llama-3-8b-instruct", "meta-textgeneration-llama-3-8b-instruct"),
        ("llama-2-7b-chat", "meta-textgeneration-llama-2-7b-f"),
        ("mistral-7b", "huggingface-llm-mistral-7b"),
        ("huggingface-llm-gemma-2b", "huggingface-llm-gemma-2b"),
        ("llama-3.1-70b", None),
    ],
)
def test_a_usual_name_means_one_model_or_none(model: str, entry: str | None) -> None:
    """A model that is not listed is not taken for one that is like it."""
    found = catalogue().match(model)
    assert (found and found.id) == entry


def test_how_a_technique_is_to_be_had() -> None:
    """Ready, by a job, with SageMaker's draft or one's own, or not at all."""
    shipped = catalogue()
    by_name = {e.id: e for e in shipped.models}
    assert offered(by_name["meta-textgeneration-llama-3-8b"], NEURON) == "compiled already"
    assert offered(by_name["huggingface-llm-gemma-2b"], NEURON) is None
    assert offered(by_name["huggingface-llm-gemma-2b"], SPECULATIVE) == "with a draft model of your own"
    assert offered(by_name["huggingface-llm-dolphin-2-5-mixtral-8x7b"], SPECULATIVE) == "with SageMaker's draft model"
    assert offered(by_name["huggingface-llm-phi-2"], SPECULATIVE) is None
    assert effect("speculative-decoding") is SPECULATIVE
    assert effect("quantization") is AWQ


CALLS = [Times(0.2, 0.02, 0.2 + 0.02 * n) for n in range(1, 101)]


def test_what_decodes_faster_keeps_the_time_to_first_token() -> None:
    """Half the time per token halves what comes after the first, and nothing before it."""
    first = predict(Objective(Indicator.TTFT, 0.1, 0.95), CALLS, SPECULATIVE)
    each = predict(Objective(Indicator.TPOT, 0.016, 0.95), CALLS, SPECULATIVE)
    whole = predict(Objective(Indicator.E2E, 2.0, 0.95), CALLS, SPECULATIVE)
    assert first is not None
    assert each is not None
    assert whole is not None
    assert (first.now_s, first.best_s, first.verdict) == (0.2, 0.2, Verdict.MISSED)
    assert (each.best_s, each.expected_s, each.worst_s) == pytest.approx((0.01, 0.015, 0.02))
    assert each.verdict is Verdict.EXPECTED
    assert (whole.now_s, whole.expected_s) == pytest.approx((0.2 + 1.9, 0.2 + 0.75 * 1.9))


def test_where_nothing_is_documented_nothing_is_predicted() -> None:
    """Of a compiled model nobody knows; what is kept already needs nothing; without a figure there is no answer."""
    missed = predict(Objective(Indicator.TPOT, 0.01), CALLS, NEURON)
    kept = predict(Objective(Indicator.TPOT, 0.03), CALLS, NEURON)
    assert missed is not None
    assert kept is not None
    assert (missed.best_s, missed.verdict, kept.verdict) == (None, Verdict.UNKNOWN, Verdict.KEPT)
    assert predict(Objective(Indicator.TTFT, 1.0), [Times(None, None, 1.0)], AWQ) is None


@given(st.floats(0.001, 10.0), st.lists(st.floats(0.001, 10.0), min_size=1, max_size=50), st.sampled_from(EFFECTS))
def test_best_is_never_worse_than_expected_nor_that_than_worst(
    threshold_s: float, times: list[float], technique: object
) -> None:
    """And a promise that the worst keeps is kept already."""
    calls = [Times(t / 2, t / 100, t) for t in times]
    for indicator in (Indicator.TTFT, Indicator.TPOT, Indicator.E2E):
        found = predict(Objective(indicator, threshold_s, 0.9), calls, technique)  # type: ignore[arg-type]
        assert found is not None
        if found.best_s is not None and found.expected_s is not None and found.worst_s is not None:
            assert found.best_s <= found.expected_s <= found.worst_s <= found.now_s * (1 + 1e-9)


def run(*arguments: str) -> Result:
    return RUNNER.invoke(catalog, list(arguments))


def advise(folder: Path, *more: str) -> Result:
    (folder / "policy.yaml").write_text(POLICY)
    return run("advise", "--policies", str(folder), "--deployment", "llama", *more)


def test_the_table_shows_what_is_asked_for() -> None:
    """By part of a name without naming a command, and by technique."""
    said = run("codellama-70b")
    assert "llama-codellama-70b" in said.output
    assert "3 of 73" in said.output
    compiled = run("--technique", "compilation")
    assert "8 of 73" in compiled.output
    assert "docs.aws.amazon.com" in compiled.output
    assert isinstance(run("no-such-model").exception, RouterError)


def test_without_a_log_the_profile_is_asked_and_that_is_said(tmp_path: Path) -> None:
    """The variant that is expected to keep the promise is named, with its cost, its source and what is not known."""
    said = advise(tmp_path)
    assert said.exit_code == 0, said.output
    assert "quantization-awq is predicted to keep what is missed" in said.output
    assert "-38% expected" in said.output
    assert "not known:" in said.output
    assert "nothing was measured" in said.output
    assert "the policy has it as llama-fast" in said.output


def test_with_a_log_it_goes_by_what_was_measured(tmp_path: Path) -> None:
    """Answers of this deployment alone, at the share that is promised."""
    log = DecisionLog(decision_folder(tmp_path))
    for n in range(40):
        event = next(e for e in request_events(n, Random(n), policy()) if isinstance(e, RequestEnded))
        told = {"deployment": "llama", "status": "completed", "ttft_s": 0.1, "tpot_s": 0.0175, "e2e_s": 2.0}
        log.handlers()[RequestEnded](msgspec.structs.replace(event, **told))
    log.flush()
    log.close()
    said = advise(tmp_path, "--log", str(tmp_path))
    assert "measured over 40 answers" in said.output
    assert "18 ms" in said.output
    assert "nothing was measured" not in said.output
    assert isinstance(advise(tmp_path, "--log", str(tmp_path / "none")).exception, RouterError)


def test_what_cannot_be_advised_on_says_what_to_do(tmp_path: Path) -> None:
    """A deployment that is not there, and a model that the catalogue does not know."""
    (tmp_path / "policy.yaml").write_text(POLICY.replace("llama-3-70b-instruct", "own-model"))
    missing = run("advise", "--policies", str(tmp_path), "--deployment", "nobody")
    assert "there are: llama, llama-fast" in str(missing.exception)
    unknown = run("advise", "--policies", str(tmp_path), "--deployment", "llama-fast")
    assert "--jumpstart-model" in str(unknown.exception)
