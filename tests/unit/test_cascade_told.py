"""What is said of checks: by the sender, by the policy, in the log, in metrics, and of an answer that is kept."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console

from router.cli.decision_view import explanation
from router.domain.decision import DecisionId
from router.domain.errors import Unreachable
from router.domain.events import CacheUsed, CascadeChecked
from router.domain.outcome import Attempt, AttemptId
from router.domain.slo import CacheTerms, Cascade, Check, Parameters, RequestClass
from router.policy.compile_class import compile_class
from router.policy.policy import Bounds, Policy
from router.policy.schema.classes import ClassSpec
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import log_files, read_decisions
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from router.wire.openai import Envelope, read_request, upstream_body
from router.wire.openai.canonical import canonical
from router.wire.openai.verify import read_verify
from tests.regressions.house import deployment, failing, virtually
from tests.unit.cascade_house import ASKED, CHECKED, Judge, asking, house, judged


@pytest.mark.parametrize("metadata", [{"verify": {"regex": "^a"}}, {"verify": '{"regex": "^a"}'}])
def test_what_the_sender_asks_to_verify_is_read_and_stays_here(metadata: dict[str, Any]) -> None:
    """It comes in `metadata`, and neither the backend nor a cached answer for another check sees it."""
    body = {"messages": [{"role": "user", "content": "hi"}], "metadata": metadata | {"team": "x"}}
    request = read_request(json.dumps(body).encode(), Envelope("r", 0.0, 0.0, "http"))
    assert read_verify(request).regex == "^a"
    bare = json.dumps(body | {"metadata": metadata}).encode()
    for payload, left in ((request.payload, {"team": "x"}), (bare, None)):
        sent = Attempt(
            AttemptId("a"),
            DecisionId("d"),
            replace(request, payload=payload),
            deployment("small"),
            1,
            0.0,
            None,
            stream=False,
        )
        assert json.loads(upstream_body(sent)).get("metadata") == left
    keys = {canonical(one, Parameters()).body for one in (request, replace(request, verify=b""))}  # type: ignore[union-attr]
    assert len(keys) == 2


def test_a_policy_says_what_is_checked() -> None:
    """In the order in which checks run, with the words that stand for none and for all."""
    text = "cascade: {checks: [regex, refusal], max_wait: 2s, threshold: 60%}"
    assert _compiled(text) == Cascade((Check.REFUSAL, Check.REGEX), max_wait_s=2.0, threshold=0.6)
    free = tuple(check for check in Check if check is not Check.LOGPROB)
    assert _compiled("cascade: {stream: true}") == Cascade(free, stream=True), "logprob only where it is named"
    assert _compiled("priority: 1") is None


def _compiled(text: str) -> Cascade | None:
    return compile_class(ClassSpec.model_validate_json(json.dumps({"name": "a", **yaml.safe_load(text)})), None).cascade


def test_checked_answers_are_counted() -> None:
    """By class, what spoke against them and what was done; series at 0 only for classes that check."""
    registry = CollectorRegistry()
    policy = Policy("p", (RequestClass("a", cascade=CHECKED), RequestClass("b")), (), Bounds())
    metrics = Metrics(policy, registry)
    sink = Sink(metrics.subscribers)
    sink.emit(CascadeChecked("a", "small", False, "regex", 0.5, 0.1, True))
    sink.drain_all()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"router_cascade_{name}_total", labels)

    assert value("answers", request_class="a", why="regex", result="escalated") == 1.0
    assert value("answers", request_class="a", why="passed", result="sent") == 0.0
    assert value("adequate_after", request_class="a", result="escalated") == pytest.approx(0.1)
    assert value("answers", request_class="b", why="passed", result="sent") is None


def test_an_answer_that_was_kept_is_given_unchecked_and_a_doubtful_one_is_not_kept() -> None:
    """The second answer is kept for the next who asks the same and the same check, who costs no call and no check.
    An answer that failed and was sent for want of a better one is made anew."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    terms: dict[str, Any] = {"parameters": Parameters(temperature=0.0), "cache": CacheTerms(60.0)}

    async def scene() -> None:
        made = house(**terms)
        for _ in range(2):
            reply = await made.ask(payload=body, **asking())
            assert b"good" in reply.choices
        assert made.backend.calls == ["small", "large"]
        assert len(made.of(CascadeChecked)) == 1
        assert [e.result for e in made.of(CacheUsed)] == ["miss", "hit"]
        doubtful = house(**terms)
        doubtful.backend.scripts["large"] = failing(Unreachable("gone"))
        for _ in range(2):
            await doubtful.ask(payload=body, **asking())
        assert doubtful.backend.calls == ["small", "large"] * 2
        assert [e.result for e in doubtful.of(CacheUsed)] == ["miss", "miss"]

    virtually(scene)


def test_the_decision_log_says_what_the_checks_said(tmp_path: Path) -> None:
    """Each check with its grade, P(adequate) before and after, and what was done, with what probability; in the log and
    in words."""

    async def scene() -> None:
        log = DecisionLog(tmp_path)
        sink = Sink([log])
        made = judged(
            house(replace(ASKED, checks=(Check.REFUSAL, Check.CALLBACK)), exploration_ratio=0.1), Judge(False)
        )
        for i in range(8):
            await made.ask(f"r{i}", **asking(callback="c"))
        for event in made.events:
            sink.emit(event)
        sink.drain_all()
        log.close()
        told = {e.decision_id: e for e in made.of(CascadeChecked)}
        for logged in read_decisions(log_files(tmp_path)):
            event = told.pop(logged.decision.id, None)
            if event is None:
                assert logged.check is None
                continue
            assert logged.check is not None
            assert logged.check.grades == (("refusal", "pass"), ("callback", "fail"))
            assert logged.check.escalated == event.escalated
            assert logged.check.propensity == event.propensity < 1.0
            console = Console(record=True, width=200, file=StringIO())
            console.print(explanation(logged))
            said = console.export_text()
            assert "refusal pass, callback fail" in said
            assert ("made again" in said) == event.escalated
            assert (logged.outcome is None) == event.escalated
        assert told == {}

    virtually(scene)
