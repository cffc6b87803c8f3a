"""`router policy evaluate`: a log estimated under another policy, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import typer
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from router.cli.policy.evaluation.command import evaluate
from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.decision import Decision, Exclusion
from router.domain.deployment import Tier
from router.domain.errors import RequestError, RouterError
from router.domain.request import Prompt, Request, RequestId
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.sim.off_policy.cases import Cases
from router.sim.off_policy.evaluate import evaluate as estimate
from router.storage.decision_records import (
    VERSION,
    DecisionRecord,
    FeedbackRecord,
    Logged,
    OutcomeRecord,
    Record,
    decision_folder,
)

RUNNER = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"})
DEPLOYMENTS = """
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated, price_usd_per_mtok: {input: 5, output: 5}}
"""
CLASS = "class: {{name: all, objectives: {{ttft: 500ms, tpot: 50ms}}, goal: cost, {}}}\n"
ADEQUATE = {"small": 0.6, "large": 0.9}


class Estimator:
    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.6, Tier.LARGE: 0.9})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The policy that logs, one that never explores, and one to estimate."""
    monkeypatch.chdir(tmp_path)
    edits = {"old": "exploration: 40%", "shy": "exploration: 0%", "new": "exploration: 0%, deployments: [large]"}
    for name, edit in edits.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(CLASS.format(edit))
        (tmp_path / name / "fleet.yaml").write_text(DEPLOYMENTS)
    return tmp_path


def traffic(policy: Policy, *, count: int = 600, told: float = 1.0, fails: str = "") -> list[Logged]:
    """What a daemon would have logged: adequate as often as estimated, always in time; `fails` never answers."""
    controller, rng = Controller(policy, Estimator(), rng=Random(1)), Random(2)
    found = []
    for number in range(count):
        now = float(number)
        request = Request(RequestId(str(number)), now, now, Prompt("hello"), 100)
        decision = controller.decide(controller.admit(request, now=now), now=now)
        assert isinstance(decision, Decision)
        name = str(decision.chosen)
        failed = name == fails
        quality = float(rng.random() < ADEQUATE[name])
        heard = not failed and rng.random() < told
        feedback = (FeedbackRecord(VERSION, decision.id, quality, now + 1.0),) if heard else ()
        found.append(Logged(decision, (), ended(decision, failed=failed), feedback))
    return found


def ended(decision: Decision, *, failed: bool = False, cost_usd: float | None = None) -> OutcomeRecord:
    """Half a second later, at the price of the pick."""
    paid = {"small": 2e-4, "large": 1e-3}[str(decision.chosen)] if cost_usd is None else cost_usd
    return OutcomeRecord(
        version=VERSION,
        decision_id=decision.id,
        at=decision.at + 0.5,
        status="failed" if failed else "completed",
        code="backend_error" if failed else None,
        deployment=str(decision.chosen),
        model="m",
        tier="small",
        attempts=1,
        ttft_s=None if failed else 0.1,
        tpot_s=None if failed else 0.01,
        e2e_s=0.5,
        queue_s=0.0,
        overhead_s=0.0,
        input_tokens=100,
        output_tokens=100,
        cost_usd=paid,
        baseline_cost_usd=1e-3,
        met=(("ttft", not failed), ("tpot", not failed)),
        slo_met=not failed,
        answer_cost_usd=paid,
    )


def write(place: Path, logged: list[Logged]) -> None:
    """As it lies on disk."""
    folder = decision_folder(place / "state")
    folder.mkdir(parents=True)
    records: list[Record] = []
    for one in logged:
        records.append(DecisionRecord(VERSION, one.decision))
        records += [r for r in (one.outcome, *one.feedback) if r is not None]
    (folder / "decisions.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, records)) + b"\n")


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(evaluate)
    return RUNNER.invoke(app, ["new", "--log", "state", *arguments], catch_exceptions=False)


def test_a_log_with_exploration_is_concluded(place: Path) -> None:
    """Status 0; better answers for more money, beside what the logged policy earned, near to what is true."""
    write(place, traffic(load_directory(place / "old")))
    result = run("--old", "old", "--json", "out.json")
    assert result.exit_code == 0, result.output
    for part in ("600 requests read, 600 estimated", "quality", "SLO met", "useful", "USD per 1k", "effective size"):
        assert part in result.output
    told = json.loads(Path("out.json").read_text())
    figures = told["overall"]["figures"]
    assert told["concluded"] is True
    assert {n: f["clear"] for n, f in figures.items()} == {
        "quality": "better",
        "slo_met": "",
        "useful": "better",
        "cost_per_1k_usd": "worse",
    }
    assert figures["quality"]["dr"]["value"] == pytest.approx(0.9, abs=0.05)
    assert figures["cost_per_1k_usd"]["dr"]["value"] == pytest.approx(1.0, abs=0.1)
    assert figures["quality"]["logged"]["value"] == pytest.approx(0.66, abs=0.05)


def test_a_log_without_exploration_is_refused(place: Path) -> None:
    """Status 3 and the reason; what exploration share and how many requests would do; nothing is called better."""
    write(place, traffic(load_directory(place / "shy")))
    result = run("--old", "shy")
    output = " ".join(result.output.split())
    assert result.exit_code == 3
    assert "No conclusion on quality: 99.8% of what it would pick had no chance of being picked and told" in output
    assert "at an exploration share of 10% about" in output
    assert "needs `exploration` in its class" in output
    assert "better" not in output


def test_without_feedback_there_is_no_quality(place: Path) -> None:
    """Cost and promises are concluded all the same; the status is 3."""
    write(place, traffic(load_directory(place / "old"), told=0.0))
    result = run("--old", "old", "--json", "out.json")
    assert result.exit_code == 3
    assert "No conclusion on quality: the log holds no feedback" in result.output
    assert "need feedback" in result.output
    figures = json.loads(Path("out.json").read_text())["overall"]["figures"]
    assert (figures["quality"]["clear"], figures["cost_per_1k_usd"]["clear"]) == ("", "worse")


def test_what_was_told_of_one_deployment_says_nothing_of_another(place: Path) -> None:
    """Feedback of small alone gives no support to a policy that goes to large."""
    logged = [
        Logged(x.decision, (), x.outcome, x.feedback if x.decision.chosen == "small" else ())
        for x in traffic(load_directory(place / "old"))
    ]
    told = estimate(logged, load_directory(place / "old"), load_directory(place / "new"))
    assert "no chance of being picked and told by feedback" in told.overall.figures["quality"].refused
    assert told.overall.figures["slo_met"].refused == ""


def test_a_class_can_be_taken_alone(place: Path) -> None:
    """By its name in the new policy; a name that it has not is told with those that it has."""
    write(place, traffic(load_directory(place / "old")))
    assert run("--old", "old", "--class", "all").exit_code == 0
    with pytest.raises(RequestError, match="no class `chat`; it has all"):
        run("--old", "old", "--class", "chat")


def test_mistakes_say_what_to_do(place: Path) -> None:
    """A log that is not there, a directory for the JSON that is not there."""
    with pytest.raises(RouterError, match="no decision log here"):
        run("--old", "old")
    with pytest.raises(RouterError, match="there is no directory"):
        run("--old", "old", "--json", "nowhere/out.json")


def test_an_empty_log_concludes_nothing(place: Path) -> None:
    """Status 3, not a division by zero."""
    write(place, [])
    result = run("--old", "old")
    assert result.exit_code == 3
    assert "No conclusion: the log holds no decision" in result.output


def retried(first: Logged) -> list[Logged]:
    """The first call failed; the answer came from a second decision, dearer by what the first cost."""
    again: dict[str, Any] = {"id": f"{first.decision.id}-again"}
    second = replace(first.decision, excluded=(Exclusion(first.decision.chosen, "tried"),), **again)
    return [Logged(first.decision), Logged(second, (), ended(second, cost_usd=5e-4), first.feedback)]


def test_what_was_tried_after_belongs_to_the_first_decision(place: Path) -> None:
    """One request, one case: the first decision with the cost of all calls and the quality of the answer."""
    logged = traffic(load_directory(place / "old"), count=3)
    cases = Cases([logged[0], *retried(logged[1]), logged[2]])
    found = list(cases)
    assert [c.decision.id for c in found] == [x.decision.id for x in logged]
    assert found[1].outcome.cost_usd == 5e-4
    assert found[1].told == logged[1].feedback[0].quality
    assert cases.open == 0


def test_a_request_without_an_end_is_left_out_and_counted(place: Path) -> None:
    """Under way, or cut off by a crash: neither kept nor broken."""
    policy = load_directory(place / "old")
    logged = [Logged(x.decision) if i % 10 == 0 else x for i, x in enumerate(traffic(policy))]
    told = estimate(logged, policy, load_directory(place / "new"))
    (reason,) = told.skipped
    assert (told.evaluated, told.skipped[reason]) == (540, 60)
    assert "its end is not in the log" in reason


@pytest.mark.parametrize(
    ("edit", "slo"), [("ttft: 500ms", 1.0), ("ttft: 50ms", 0.0)], ids=["as it was", "tighter than any"]
)
def test_promises_are_those_of_the_new_policy(place: Path, edit: str, slo: float) -> None:
    """The latencies that were seen are judged again: a tenth of a second keeps half a second, not a twentieth."""
    (place / "new" / "policy.yaml").write_text(CLASS.format("exploration: 0%").replace("ttft: 500ms", edit))
    old = load_directory(place / "old")
    told = estimate(traffic(old), old, load_directory(place / "new")).overall.figures["slo_met"]
    assert told.snips is not None
    assert told.logged is not None
    assert told.snips.value == pytest.approx(slo)
    assert told.logged.value == 1.0


def test_a_price_is_that_of_the_new_policy(place: Path) -> None:
    """What was paid then is paid again at the new price."""
    (place / "new" / "fleet.yaml").write_text(DEPLOYMENTS.replace("input: 5, output: 5", "input: 50, output: 50"))
    old = load_directory(place / "old")
    told = estimate(traffic(old), old, load_directory(place / "new")).overall.figures["cost_per_1k_usd"]
    assert told.snips is not None
    assert told.snips.value == pytest.approx(10.0)


def test_a_deployment_that_fails_is_no_good(place: Path) -> None:
    """An answer that never came has quality 0, keeps no promise, and is not useful, whatever was predicted."""
    old = load_directory(place / "old")
    told = estimate(traffic(old, fails="large"), old, load_directory(place / "new")).overall
    for name in ("quality", "slo_met", "useful"):
        figure = told.figures[name]
        assert figure.snips is not None
        assert figure.dr is not None
        assert figure.snips.value == pytest.approx(0.0)
        assert figure.dr.value == pytest.approx(0.0, abs=0.15)
        assert figure.clear == "worse"


def test_the_gate_has_a_status_for_each_answer(place: Path) -> None:
    """Passed is 0, not shown is 4 and too little is 3, with the figures in one line; without terms there is no gate."""
    write(place, traffic(load_directory(place / "old")))
    with pytest.raises(RouterError, match="no class of the policy requires anything"):
        run("--old", "old", "--gate")
    for require, status, word in (
        ("quality_low: 0.7", 0, "class all: passed: by 600 logged requests: quality 0.8"),
        ("usd_per_request: 0.0005", 4, "class all: refused: by 600 logged requests: USD a request 0.00"),
        ("quality_low: 0.7, decisions: 100", 3, "class all: too little is known: the log says too little by 100"),
    ):
        edit = f"deployments: [large], rollout: {{mode: canary, require: {{{require}}}}}"
        (place / "new" / "policy.yaml").write_text(CLASS.format(edit))
        result = run("--old", "old", "--gate", "--json", "gate.json")
        assert result.exit_code == status, result.output
        assert word in result.output
        assert json.loads(Path("gate.json").read_text())["all"]["reason"] in result.output


def test_an_artefact_is_refused_with_a_way_out(place: Path) -> None:
    """Prompts are not in the log: what to run in its place."""
    with pytest.raises(RouterError, match=r"prompts are not kept in the log.*router policy try"):
        run("--old", "old", "--artefact", "new.artefact")


def test_help_says_what_the_log_does_not_hold() -> None:
    """That a new artefact cannot be estimated, and what to use in its place; what a status means."""
    text = evaluate.__doc__ or ""
    assert "prompts are not in the log" in text
    assert "router policy try" in text
    assert "3 too little support" in text
