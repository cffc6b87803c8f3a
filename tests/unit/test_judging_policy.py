"""Judges as the policy has them: what may be written, what is doubtful, what is shown."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from random import Random

import pytest
import typer
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console
from typer.testing import CliRunner

from bench.traffic import policy as made_up
from bench.traffic import request_events, trouble_events
from router.cli.decision_view import explanation
from router.cli.policy.explain import explain
from router.core.judging.judging import account_of
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.events import AnswerJudged, AttemptEnded, BudgetObserved, FeedbackReceived, JudgeCompared
from router.domain.slo import Judge, RequestClass
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.policy.diff import difference
from router.policy.policy import Policy
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import FeedbackRecord, JudgedRecord, log_files, read_decisions, read_record
from router.storage.paid_calls import calls_since
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from tests.unit.policy_mistakes import FLEET, Mistake, told_once

THIRD = FLEET.replace(
    "prices:", "  - {name: arbiter, model: gpt-4, tier: large, backend: simulated, tags: [eu]}\nprices:"
).replace("models:\n", "models:\n    gpt-4: {input: 30, output: 60}\n", 1)

MISTAKES = {
    "a judge that is not there": Mistake(
        "class:\n  name: a\n  judge: {deployment: ▸arbitr}\n",
        "class.judge.deployment",
        "no deployment or group is called `arbitr`, did you mean `arbiter`?",
    ),
    "a model is no judge": Mistake(
        "class:\n  name: a\n  judge: {deployment: ▸gpt-4}\n",
        "class.judge.deployment",
        "no deployment or group is called",
    ),
    "in the defaults": Mistake(
        "defaults:\n  judge: {deployment: ▸nobody}\n", "defaults.judge.deployment", "no deployment or group is called"
    ),
    "no judge": Mistake(
        "class:\n  name: a\n  judge: ▸{share: 2%}\n", "class.judge", "missing required field `deployment`"
    ),
    "a share of nothing": Mistake(
        "class:\n  name: a\n  judge: {deployment: arbiter, share: ▸0}\n",
        "class.judge.share",
        "expected a share above 0, such as 0.02 or 2%",
    ),
    "a share above all": Mistake(
        "class:\n  name: a\n  judge: {deployment: arbiter, share: ▸2}\n",
        "class.judge.share",
        "expected a share such as",
    ),
    "no budget": Mistake(
        "class:\n  name: a\n  judge: {deployment: arbiter, usd_per_day: ▸0}\n",
        "class.judge.usd_per_day",
        "must be greater than 0",
    ),
    "an unknown field": Mistake(
        "class:\n  name: a\n  judge: {deployment: arbiter, ▸rubrik: x}\n",
        "class.judge.rubrik",
        "did you mean `rubric`?",
    ),
    "who may not see the data": Mistake(
        "class:\n  name: a\n  residency: [us]\n  judge: {deployment: ▸arbiter}\n",
        "class.judge.deployment",
        "`arbiter` may not see the answers it would judge: it does not carry us of `residency`",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_at_its_place(mistake: Mistake) -> None:
    """One message, with file, line and column."""
    told_once(mistake, THIRD.replace("name: small,", "name: small, tags: [us],"))


def test_a_judge_is_compiled_field_by_field() -> None:
    """What is not said stands at its default; a class that says nothing has the judge of the defaults, or none."""
    text = "judge: {deployment: arbiter, share: 5%, usd_per_day: 2, rubric: r, reference: f, wait: 2m}"
    policy = compile_policy(
        [
            ("fleet.yaml", THIRD),
            ("a.yaml", f"classes: [{{name: a, match: {{tenants: t}}, {text}}}, {{name: b}}]"),
            ("d.yaml", "defaults: {judge: {deployment: arbiter}}"),
        ]
    )
    assert [c.judge for c in policy.classes] == [
        Judge("arbiter", 0.05, 2.0, "r", "f", 120.0),
        Judge("arbiter", 0.02, 1.0, None, None, 60.0),
    ]


@pytest.mark.parametrize(
    ("written", "code", "says"),
    [
        ("judge: {deployment: large}", "judges_itself", "`large` judges answers of its own model"),
        (
            "judge: {deployment: arbiter, usd_per_day: 0.01}\n  deployments: [small]",
            "judge_budget",
            "nothing is judged: judging a usual answer costs 0.0318 USD",
        ),
        ("judge: {deployment: arbiter}\n  deployments: [small, model-of-large]", "", ""),
    ],
)
def test_what_is_doubtful_is_told(written: str, code: str, says: str) -> None:
    """A judge of its own answers, and a budget that holds no call; a third party with enough is fine."""
    written = written.replace("model-of-large", "llama-3.1-70b")
    documents = [("fleet.yaml", THIRD), ("a.yaml", f"class:\n  name: a\n  {written}\n")]
    found = [p for p in find_warnings(documents, compile_policy(documents)) if p.code.startswith("judge")]
    assert [p.code for p in found] == ([code] if code else [])
    assert all(says in p.message and p.file == "a.yaml" for p in found)


def test_a_judge_of_the_defaults_that_may_not_see_one_class_is_a_doubt() -> None:
    """The other classes have it."""
    fleet = THIRD.replace("name: small,", "name: small, tags: [us],")
    documents = [("d.yaml", f"{fleet}defaults: {{judge: {{deployment: arbiter}}}}\nclass: {{name: a, residency: us}}")]
    found = find_warnings(documents, compile_policy(documents))
    assert [p.code for p in found if p.code.startswith("judge")] == ["judge_unused"]


def test_an_edit_of_the_judge_is_told() -> None:
    """In the log line of an applied policy."""
    old, new = (
        compile_policy(
            [("f.yaml", THIRD), ("a.yaml", f"class: {{name: a, judge: {{deployment: arbiter, share: {s}}}}}")]
        )
        for s in ("2%", "4%")
    )
    assert list(difference(old, new)) == ["class a: judge.share_ratio 2% -> 4%"]


def policy() -> Policy:
    fleet = [_deployment(name) for name in ("small", "arbiter")]
    return Policy("p", (RequestClass("a", judge=Judge("arbiter", usd_per_day=2.0)), RequestClass("b")), tuple(fleet))


def _deployment(name: str) -> Deployment:
    address = Address("simulated", name)
    return Deployment(DeploymentName(name), name, name, Tier.LARGE, Kind.CONTINUOUS, address, Price(1.0, 1.0))


JUDGED = AnswerJudged(
    "a", "arbiter", "small", "d1", "inadequate", 0.02, 86_400.0, 0.25, 0.003, 0.4, "d1.judge", "a (judge)"
)


def test_the_metrics_show_verdicts_dollars_budget_and_agreement() -> None:
    """By class and judge; a class without a judge has no series."""
    registry = CollectorRegistry()
    sink = Sink(Metrics(policy(), registry).subscribers)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"router_judge_{name}", labels)

    assert value("answers_total", request_class="a", verdict="adequate") == 0.0
    assert value("answers_total", request_class="b", verdict="adequate") is None
    assert value("budget_left_usd", request_class="a") == 2.0
    assert value("agreed_ratio", deployment="arbiter") is None, "nothing is known before anything was compared"
    for event in (
        JUDGED,
        BudgetObserved(account_of("a"), 0.5, 0.25, 2.0),
        BudgetObserved("b", 0.5, 0.25, 9.0),
        JudgeCompared("a", "arbiter", "d1", 0.9, 0.2, 7, 0.3, 0.6),
    ):
        sink.emit(event)
    sink.drain_all()
    assert value("answers_total", request_class="a", verdict="inadequate") == 1.0
    assert value("cost_usd_total", request_class="a", deployment="arbiter") == 0.003
    assert value("budget_left_usd", request_class="a") == 1.25
    assert value("budget_left_usd", request_class="b") is None
    assert value("compared_total", deployment="arbiter") == 1.0
    assert value("difference", deployment="arbiter") == 0.3
    assert value("agreed_ratio", deployment="arbiter") == 0.6


def test_the_decision_log_keeps_verdicts_and_who_told_what(tmp_path: Path) -> None:
    """The sender's word stands before the judge's, whichever came first; a call to a judge counts in its budget."""
    log = DecisionLog(tmp_path)
    handlers = log.handlers()
    failed = next(event for event in trouble_events(1, made_up()) if isinstance(event, AttemptEnded))
    asking = replace(failed.outcome.attempt.request, source="judge")
    of_judge = replace(failed.outcome, attempt=replace(failed.outcome.attempt, request=asking))
    for event in (
        request_events(1, Random(1), made_up())[1],
        replace(failed, outcome=of_judge),
        JUDGED,
        FeedbackReceived("d1", 0.25, True, "a", "small", "judge", 0.02),
        FeedbackReceived("d1", 1.0, True, "a", "small"),
    ):
        handlers[type(event)](event)
    log.close()
    (path,) = log_files(tmp_path)
    records = [read_record(line) for line in path.read_bytes().splitlines()]
    _, judged, first, second = records
    assert isinstance(judged, JudgedRecord)
    assert (judged.verdict, judged.quality, judged.propensity, judged.cost_usd) == ("inadequate", 0.25, 0.02, 0.003)
    assert isinstance(first, FeedbackRecord)
    assert isinstance(second, FeedbackRecord)
    assert (first.source, first.propensity, second.source) == ("judge", 0.02, "sender")
    (logged,) = read_decisions([path])
    assert logged.judged == judged
    assert logged.attempts == (), "a call to a judge that fails is no call of the decision"
    assert logged.feedback == (second, first)
    console = Console(record=True, width=200, file=StringIO())
    console.print(explanation(logged))
    shown = console.export_text()
    assert "judged by arbiter: inadequate (0.25), drawn with probability 0.02, $0.003000" in shown
    assert "feedback 1 by the sender" in shown
    paid, _ = calls_since(tmp_path, 0.0)
    assert (paid.decision_id, paid.request_class, paid.cost_usd) == ("d1.judge", "a (judge)", 0.003)


def test_the_explanation_of_a_decision_says_who_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share, judge and budget; nothing where there is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "request.json").write_text(json.dumps({"messages": [{"role": "user", "content": "Why?"}]}))
    app = typer.Typer()
    app.command()(explain)
    for terms, says in (("judge: {deployment: arbiter}", True), ("priority: 1", False)):
        (tmp_path / "policies" / "p.yaml").write_text(f"{THIRD}class:\n  name: a\n  {terms}\n")
        shown = CliRunner().invoke(app, ["request.json"], catch_exceptions=False).output
        assert ("judged: 2% of the answers, by arbiter, for at most USD 1 a day" in shown) == says
