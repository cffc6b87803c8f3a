"""The cascade on the virtual clock: a first answer is looked at, and made again where that is worth it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from router.core import snapshot
from router.core.cascade.option import given_first
from router.core.controller import Controller
from router.core.evidence import binding
from router.domain.decision import DecisionId, Terms
from router.domain.deployment import Price, Tier
from router.domain.errors import RequestError, Unreachable
from router.domain.events import AttemptEnded, CascadeChecked, DecisionMade, RequestEnded
from router.domain.outcome import Attempt, AttemptId, Delta, Usage
from router.domain.reasons import because
from router.domain.slo import (
    Budget,
    Cascade,
    Check,
    Indicator,
    Objective,
    Objectives,
    Parameters,
    QualityFloor,
    RequestClass,
)
from router.policy.compile_class import compile_class
from router.policy.policy import Bounds, Policy
from router.policy.schema.classes import ClassSpec
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from router.wire.openai import Envelope, read_request, upstream_body, whole_choices
from router.wire.openai.canonical import canonical
from router.wire.openai.verify import read_verify
from tests.regressions.house import Answer, Estimator, House, Reader, deployment, failing, never, virtually

CHECKED = Cascade((Check.REGEX,), threshold=0.3)
AUTO = replace(CHECKED, threshold=None)


def house(cascade: Cascade | None = CHECKED, *, dear: float = 60.0, **fields: Any) -> House:
    """A small model that is right half the time, and a large one whose tokens cost so much a million."""
    fleet = (
        deployment("small", price=Price(1.0, 1.0)),
        deployment("large", Tier.LARGE, price=Price(1.0, dear)),
    )
    made = House(RequestClass("all", cascade=cascade, **fields), deployments=fleet)
    made.backend.scripts = {"small": saying("bad"), "large": saying("good")}
    return made


def saying(text: str, *, tokens: int = 200, after_s: float = 0.5) -> Answer:
    """A whole answer after a while."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(after_s)
        yield Delta(whole_choices(text, "stop"), tokens, "stop", Usage(10, tokens), whole=True)

    return script


def asking(regex: str = "^good") -> dict[str, Any]:
    return {"verify": json.dumps({"regex": regex}).encode()}


def sure_of_fails(made: House, variance: float = 0.01) -> None:
    """Feedback has shown that what fails the pattern is wrong."""
    state = made.controller.checks.state()
    state |= {
        "model-small\tregex\tfail": [-5.0, variance, 375.0, 0.5],
        "model-small\tregex\tpass": [1.15, variance, 625.0, 0.5],
    }
    made.controller.checks.restore(state)


def test_an_answer_that_fails_is_made_again_and_both_calls_are_counted() -> None:
    """The sender gets the second; cost, time and attempts are of both; each call is a decision of its own."""

    async def scene() -> None:
        made = house()
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small", "large"]
        assert b"good" in reply.choices
        assert reply.receipt.deployment == "large"
        assert reply.receipt.attempts == 2
        assert reply.receipt.cost_usd == pytest.approx(210e-6 + 10e-6 + 200 * 60e-6)
        first, second = (e.decision for e in made.of(DecisionMade))
        assert (first.chosen, second.chosen) == ("small", "large")
        assert second.propensity == 1.0
        assert reply.receipt.decision_id == second.id
        ended = made.only(RequestEnded)
        assert ended.e2e_s == pytest.approx(1.0)
        assert ended.cost_usd == pytest.approx(reply.receipt.cost_usd)
        assert ended.answer_cost_usd == pytest.approx(10e-6 + 200 * 60e-6)
        assert ended.attempts == 2
        after = made.only(CascadeChecked).p_adequate_after
        assert ended.p_adequate == pytest.approx(given_first(0.95, 0.5, after))
        assert ended.p_adequate < 0.91, "what was hard for one is harder for the other"
        told = made.only(CascadeChecked)
        assert (told.passed, told.why, told.escalated, told.deployment) == (False, "regex", True, "small")
        assert told.p_adequate_before == pytest.approx(0.5)
        assert told.p_adequate_after < 0.3
        assert told.decision_id == first.id
        assert made.in_flight() == 0

    virtually(scene)


def test_an_answer_that_passes_is_sent() -> None:
    """One call, and what the router expects of the answer has risen."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["small"] = saying("good enough")
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small"]
        assert reply.receipt.deployment == "small"
        told = made.only(CascadeChecked)
        assert (told.passed, told.why, told.escalated) == (True, "passed", False)
        assert made.only(RequestEnded).p_adequate == pytest.approx(told.p_adequate_after)
        assert told.p_adequate_after > 0.5

    virtually(scene)


@pytest.mark.parametrize("asked", [{}, asking()])
def test_a_class_without_a_cascade_checks_nothing(asked: dict[str, Any]) -> None:
    """Off by default, also where the sender asks for it."""

    async def scene() -> None:
        made = house(None)
        await made.ask(**asked)
        assert made.backend.calls == ["small"]
        assert made.of(CascadeChecked) == []
        decision = made.only(DecisionMade).decision
        assert all(c.terms.cascade == 0.0 for c in decision.candidates)

    virtually(scene)


def test_a_wrong_pattern_is_refused_before_any_call() -> None:
    """The error says which field, and nothing was spent."""

    async def scene() -> None:
        made = house()
        with pytest.raises(RequestError, match=r"metadata\.verify\.regex"):
            await made.ask(**asking("("))
        assert made.backend.calls == []

    virtually(scene)


def test_gain_against_cost_decides_without_a_threshold() -> None:
    """An answer that surely fails is made again at a price that is worth it and sent as it is at one that is not."""

    async def scene() -> None:
        for dear, calls in ((60.0, ["small", "large"]), (2000.0, ["small"])):
            made = house(AUTO, dear=dear)
            sure_of_fails(made)
            await made.ask(**asking())
            assert made.backend.calls == calls, dear

    virtually(scene)


def test_the_floor_pays_for_a_second_call() -> None:
    """At a price that usefulness alone does not pay, the price of the quality floor does."""

    async def scene() -> None:
        for floor_price, calls in ((0.0, ["small"]), (1.0, ["small", "large"])):
            made = house(AUTO, dear=100.0, floor=QualityFloor(0.9))
            sure_of_fails(made)
            made.controller.duals.floors["all"].value = floor_price
            await made.ask(**asking())
            assert made.backend.calls == calls, floor_price

    virtually(scene)


def test_the_option_is_part_of_the_first_decision() -> None:
    """Where a check can catch what is wrong, the small model is worth more than by itself: it is tried first though
    the large one alone would be better. The log says by how much and why."""

    async def scene() -> None:
        plain, checked = house(None, dear=30.0), house(AUTO, dear=30.0)
        for made in (plain, checked):
            sure_of_fails(made)
            await made.ask(**asking())
        assert plain.backend.calls == ["large"]
        assert checked.backend.calls[0] == "small"
        decision = checked.of(DecisionMade)[0].decision
        small = next(c for c in decision.candidates if c.deployment == "small")
        terms = small.terms
        assert terms.cascade > 0.0
        large = next(c for c in decision.candidates if c.deployment == "large")
        assert small.score - terms.cascade < large.score < small.score
        assert small.score == pytest.approx(terms.useful + terms.floor - terms.cost - terms.capacity + terms.cascade)

    virtually(scene)


def test_a_decision_that_the_option_tipped_says_so() -> None:
    """The constraint is named, and told in a sentence."""

    async def scene() -> None:
        made = house(AUTO)
        await made.ask(**asking())
        decision = made.of(DecisionMade)[0].decision
        small, large = (next(c for c in decision.candidates if c.deployment == name) for name in ("small", "large"))
        ahead = replace(large, score=small.score - 0.01, terms=replace(small.terms, cascade=small.terms.cascade - 0.01))
        assert binding((small, ahead), 0, None) == "cascade"
        told = replace(decision, binding="cascade", candidates=(small, ahead), chosen=small.deployment)
        assert "checked before it is sent" in because(told)

    virtually(scene)


def test_no_second_call_past_the_deadline() -> None:
    """Too little is left for another answer: the one in hand is sent, in time."""

    async def scene() -> None:
        made = house()
        reply = await made.ask(deadline_s=0.6, **asking())
        assert made.backend.calls == ["small"]
        assert reply.receipt.deployment == "small"
        assert made.only(CascadeChecked).escalated is False
        paid = house(AUTO, floor=QualityFloor(0.9))
        sure_of_fails(paid)
        paid.backend.scripts["small"] = saying("bad", after_s=0.01)
        paid.controller.duals.floors["all"].value = 3.0
        await paid.ask(deadline_s=0.9, **asking())
        assert len(paid.backend.calls) == 1, "also not where the floor would pay for a late answer"

    virtually(scene)


def test_a_second_call_that_is_late_gives_way_to_the_first_answer() -> None:
    """It is given up in time for the first answer to be sent before the deadline, and what it cost is counted."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["large"] = never
        reply = await made.ask(deadline_s=30.0, **asking())
        assert made.backend.calls == ["small", "large"]
        assert reply.receipt.deployment == "small"
        assert reply.receipt.attempts == 2
        ended = made.only(RequestEnded)
        assert ended.status == "completed"
        assert ended.e2e_s == pytest.approx(10.5)
        assert ended.ttft_s == pytest.approx(0.5)
        assert made.in_flight() == 0

    virtually(scene)


def test_a_second_call_that_fails_leaves_the_first_answer() -> None:
    """An answer in hand is never lost to the failure of another."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["large"] = failing(Unreachable("gone"), after_s=0.2, tokens=1)
        reply = await made.ask(**asking())
        assert b"bad" in reply.choices
        ended = made.only(RequestEnded)
        assert ended.status == "completed"
        assert ended.ttft_s == pytest.approx(0.5)
        assert made.in_flight() == 0

    virtually(scene)


def test_both_calls_stay_under_the_bound_of_a_request() -> None:
    """What the first cost is part of what the request may cost."""

    async def scene() -> None:
        expected = await _expected_usd()
        made = house(budget=Budget(usd_per_request=expected + 100e-6))
        await made.ask(**asking())
        assert made.backend.calls == ["small"]

    async def _expected_usd() -> float:
        made = house()
        await made.ask(**asking())
        decision = made.of(DecisionMade)[1].decision
        usd: float = next(c.terms.cost_usd for c in decision.candidates if c.deployment == "large")
        return usd

    virtually(scene)


async def streamed(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """Five pieces, 0.1 s apart."""
    word = "good" if attempt.deployment.name == "large" else "bad"
    for i in range(5):
        await asyncio.sleep(0.1)
        last = {"finish_reason": "stop"} if i == 4 else {}
        choices = json.dumps([{"index": 0, "delta": {"content": f"{word} "}, **last}]).encode()
        yield Delta(choices, 40, "stop" if i == 4 else None, Usage(10, 200) if i == 4 else None)


def streaming(cascade: Cascade, **fields: Any) -> House:
    made = house(cascade, **fields)
    made.backend.scripts = {"small": streamed, "large": streamed}
    return made


def test_a_stream_is_not_held_back_without_the_policys_word() -> None:
    """Its pieces go out as they come, unchecked."""

    async def scene() -> None:
        made, reader = streaming(CHECKED), Reader()
        reply = await made.ask(stream=True, responder=reader, **asking())
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 5
        assert made.of(CascadeChecked) == []
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.1)
        assert reply.receipt.deployment == "small"

    virtually(scene)


def test_a_stream_that_may_be_held_is_made_again_before_any_of_it_has_left() -> None:
    """The reader sees only the second answer, as it comes."""

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        await made.ask(stream=True, responder=reader, **asking())
        assert made.backend.calls == ["small", "large"]
        assert reader.begun == ["large"]
        assert "bad" not in reader.text()
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.6)

    virtually(scene)


def test_a_held_stream_that_passes_goes_out_whole_and_its_first_token_counts_then() -> None:
    """What the reader waited for is what is measured."""

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        await made.ask(stream=True, responder=reader, **asking("^bad"))
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 5
        assert made.only(CascadeChecked).passed
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.5)

    virtually(scene)


def test_a_stream_held_too_long_is_let_go_unchecked() -> None:
    """Past the bound of the class what is held goes out, and the rest as it comes."""

    async def slow(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        for i in range(40):
            await asyncio.sleep(0.5)
            last = i == 39
            choices = json.dumps([{"index": 0, "delta": {"content": "bad "}}]).encode()
            yield Delta(choices, 1, "stop" if last else None, Usage(10, 40) if last else None)

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        made.backend.scripts["small"] = slow
        await made.ask(stream=True, responder=reader, **asking())
        assert made.of(CascadeChecked) == []
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 40
        assert made.only(RequestEnded).ttft_s == pytest.approx(11.0, abs=0.6)

    virtually(scene)


def test_a_stream_is_not_held_where_its_first_token_is_promised_sooner() -> None:
    """Held back, it would break its promise: the decision says so before the call."""

    async def scene() -> None:
        soon = Objectives(ttft=Objective(Indicator.TTFT, 0.3))
        made, reader = streaming(replace(CHECKED, stream=True), objectives=soon), Reader()
        await made.ask(stream=True, responder=reader, **asking())
        assert made.of(CascadeChecked) == []
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.1)

    virtually(scene)


def test_holding_a_stream_costs_what_it_had_of_an_early_first_token() -> None:
    """The same option is worth less where the reader would wait for it, and the decision counts that."""

    async def option(stream: bool, **promised: Any) -> Terms:
        made = streaming(replace(AUTO, stream=True), **promised)
        sure_of_fails(made)
        await made.ask(stream=stream, responder=Reader() if stream else None, **asking())
        decision = made.of(DecisionMade)[0].decision
        terms: Terms = next(c.terms for c in decision.candidates if c.deployment == "small")
        return terms

    async def scene() -> None:
        free = await option(stream=True)
        promised = Objectives(ttft=Objective(Indicator.TTFT, 6.0 * free.e2e_s))
        held = await option(stream=True, objectives=promised)
        whole = await option(stream=False, objectives=promised)
        assert 0.0 < held.cascade < whole.cascade

    virtually(scene)


def test_feedback_teaches_the_check_and_leaves_the_model_as_it_was() -> None:
    """Answers of the small model that are sent have passed: being right as often as passed answers are is no news of
    the model. Half its answers are right; of those 95 % pass, of the others 30 %."""
    rng = Random(3)
    passes: dict[str, bool] = {}

    async def small(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        passes[attempt.request.id] = rng.random() < 0.5 * 0.95 + 0.5 * 0.3
        async for delta in saying("good" if passes[attempt.request.id] else "bad", after_s=0.01)(attempt):
            yield delta

    async def scene() -> None:
        made = house()
        sure_of_fails(made, variance=0.1)
        made.backend.scripts["small"] = small
        for i in range(600):
            reply = await made.ask(f"r{i}", **asking())
            if passes[f"r{i}"]:
                is_right = rng.random() < 0.5 * 0.95 / (0.5 * 0.95 + 0.5 * 0.3)
                made.dispatcher.feedback(reply.receipt.decision_id, float(is_right))
        p, _ = made.controller.qualities.correct(0.5, "model-small", "chat")
        assert p == pytest.approx(0.5, abs=0.06)
        mean, variance, *_ = made.controller.checks.state()["model-small\tregex\tpass"]
        assert mean == pytest.approx(1.15, abs=0.25)
        assert variance < 0.03, "it is surer than before"

    virtually(scene)


def test_what_checks_are_worth_survives_a_restart() -> None:
    """The checkpoint carries it."""

    async def scene() -> None:
        made = house()
        sure_of_fails(made)
        fresh = Controller(made.controller.policy, Estimator(), rng=Random(0))
        snapshot.restore(fresh, snapshot.take(made.controller, at=0.0))
        assert fresh.checks.state() == made.controller.checks.state()

    virtually(scene)


def test_quality_rises_as_bayes_says_and_cost_with_it() -> None:
    """A check that catches 70 % of what is wrong at 5 % false alarms, learned from feedback on what is sent, with a
    small model that is right half the time and a large one that is right on .875 of what the small gets wrong.

    By Bayes' rule .375 of the answers fail; .475 are right and pass; of the failed the large one gets .883 right:
    .475 + .375 * .883 = .806 right at the small model's cost and .375 of the large one's.
    """
    rng = Random(11)
    right: dict[tuple[str, str], bool] = {}

    async def small(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        is_right = rng.random() < 0.5
        right[attempt.request.id, "small"] = is_right
        fails = rng.random() < (0.05 if is_right else 0.7)
        async for delta in saying("bad" if fails else "good", after_s=0.01)(attempt):
            yield delta

    async def large(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        chance = 1.0 if right.get((attempt.request.id, "small"), True) else 0.875
        right[attempt.request.id, "large"] = rng.random() < chance
        async for delta in saying("good", after_s=0.01)(attempt):
            yield delta

    async def scene() -> None:
        made = house(AUTO)
        made.backend.scripts = {"small": small, "large": large}
        good = before = 0
        for i in range(3000):
            if i == 1000:
                good, before = 0, len(made.backend.calls)
            name = f"r{i}"
            reply = await made.ask(name, **asking())
            is_right = right[name, reply.receipt.deployment]
            good += is_right
            if rng.random() < 0.3:
                made.dispatcher.feedback(reply.receipt.decision_id, float(is_right))
        later = made.backend.calls[before:]
        assert later.count("small") == 2000
        assert good / 2000 == pytest.approx(0.806, abs=0.03)
        assert later.count("large") / 2000 == pytest.approx(0.375, abs=0.03)
        served = made.of(RequestEnded)[1000:]
        assert sum(e.cost_usd for e in served) / 2000 == pytest.approx(210e-6 + 0.375 * 12010e-6, rel=0.08)
        expected = sum(e.p_adequate for e in served) / 2000
        assert expected == pytest.approx(good / 2000, abs=0.05)
        assert len(made.of(AttemptEnded)) == len(made.backend.calls)

    virtually(scene)


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
