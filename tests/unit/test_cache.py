"""The exact response cache on the virtual clock: the same question of the same tenant is answered once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.deployment import Sampling, Tier
from router.domain.errors import Expired, RouterError, Unreachable
from router.domain.events import (
    CACHE,
    AttemptEnded,
    CacheUsed,
    Event,
    ExperimentObserved,
    RequestEnded,
    RequestRejected,
)
from router.domain.outcome import Attempt, Delta, Reply, Usage
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.domain.slo import CacheTerms, Ceiling, Indicator, Objective, Objectives, Parameters, RequestClass
from router.policy.policy import Policy
from router.wire.openai import delta_choices, whole_choices
from tests.regressions.house import House, Reader, cancel, code_of, deployment, failing_once, never, virtually, well

TERMS = CacheTerms(60.0)
CACHED = RequestClass("all", parameters=Parameters(temperature=0.0), cache=TERMS)
ONLY = (deployment("only"),)
RETRIED = (deployment("one"), deployment("two", Tier.LARGE))
ANSWER = "w0 w1 w2 "


def body(text: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **fields}).encode()


HELLO = body()


def house(request_class: RequestClass = CACHED, **fields: Any) -> House:
    fields.setdefault("deployments", ONLY)
    return House(request_class, **fields)


def used(told: House) -> list[str]:
    return [event.result for event in told.of(CacheUsed)]


def text(reply: Reply) -> str:
    said: str = json.loads(reply.choices)[0]["message"]["content"]
    return said


def ending(reason: str | None, *, whole: bool = False) -> Callable[[Attempt], AsyncGenerator[Delta, None]]:
    """One piece that ends so."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.1)
        choices = whole_choices("x", reason or "stop") if whole else delta_choices("x", role=True, finish_reason=reason)
        yield Delta(choices, 1, reason, Usage(10, 1), whole=whole)

    return script


def test_the_same_question_is_answered_once() -> None:
    """The second reply is the first, at no cost, with no attempt, in no time, under the decision that made it."""

    async def scene() -> None:
        told = house()
        first = await told.ask("a", payload=HELLO)
        before = asyncio.get_running_loop().time()
        second = await told.ask("b", payload=body(temperature=0.0, user="u7"))
        assert asyncio.get_running_loop().time() == before
        assert told.backend.calls == ["only"]
        assert (second.choices, second.usage) == (first.choices, first.usage)
        made, given = first.receipt, second.receipt
        assert (given.decision_id, given.deployment, given.model) == (made.decision_id, made.deployment, made.model)
        assert (given.attempts, given.cost_usd, given.cache, made.cache) == (0, 0.0, "hit", "")
        assert second.request.id == "b"
        assert told.of(CacheUsed) == [CacheUsed("all", "miss"), CacheUsed("all", "hit", made.cost_usd)]
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_a_hit_counts_for_the_class_and_for_no_deployment() -> None:
    """Its promises are judged, its quality is that of the answer, its deployment is `cache`, and nothing is called."""

    async def scene() -> None:
        promised = Objectives(ttft=Objective(Indicator.TTFT, 0.05), availability=Objective(Indicator.AVAILABILITY, 0.0))
        limited = replace(CACHED, objectives=promised, deployments=("only",))
        told = house(limited, deployments=(*ONLY, deployment("large", Tier.LARGE)))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        made, given = told.of(RequestEnded)
        assert (given.deployment, given.tier, given.model) == (CACHE, "", made.model)
        assert (given.status, given.attempts, given.cost_usd, given.code) == ("completed", 0, 0.0, None)
        assert (made.slo_met, given.slo_met) == (False, True)
        assert dict(given.met) == {"ttft": True, "availability": True}
        assert given.p_adequate == made.p_adequate is not None
        assert given.baseline_cost_usd == made.baseline_cost_usd > 0.0
        assert given.decision_id == made.decision_id
        assert len(told.of(AttemptEnded)) == 1

    virtually(scene)


def test_feedback_on_a_hit_goes_to_the_decision_that_made_the_answer() -> None:
    """And is known there."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        reply = await told.ask("b", payload=HELLO)
        assert told.dispatcher.feedback(reply.receipt.decision_id, 1.0)

    virtually(scene)


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": body("hello!")},
        {"payload": body(max_tokens=5), "max_tokens": 5},
        {"payload": body(seed=1)},
        {"payload": HELLO, "tenant": "other"},
        {"payload": HELLO, "model": "only"},
    ],
)
def test_another_question_is_another_call(fields: dict[str, Any]) -> None:
    """Other words, other parameters, another tenant, another deployment asked for."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        await told.ask("b", **fields)
        assert len(told.backend.calls) == 2
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_another_class_is_another_question() -> None:
    """Two classes that treat a request alike still answer apart."""

    async def scene() -> None:
        told = House(replace(CACHED, name="one"), replace(CACHED, name="two"), deployments=ONLY)
        for name in ("one", "two", "one", "two"):
            await told.ask(name, payload=HELLO, request_class=name)
        assert [(e.request_class, e.result) for e in told.of(CacheUsed)] == [
            ("one", "miss"),
            ("two", "miss"),
            ("one", "hit"),
            ("two", "hit"),
        ]

    virtually(scene)


def test_the_arms_of_an_experiment_answer_apart() -> None:
    """Also where they differ in nothing: each arm makes its own answer."""

    async def scene() -> None:
        arms = (Arm("a", 0.5), Arm("b", 0.5))
        told = house(replace(CACHED, rollout=Rollout(RolloutMode.AB, arms=arms)))
        for i in range(20):
            await told.ask(f"r{i}", payload=HELLO)
        ended = told.of(RequestEnded)
        assert {e.arm for e in ended if e.deployment != CACHE} == {e.arm for e in ended if e.deployment == CACHE}
        assert len(told.backend.calls) == 2

    virtually(scene)


def test_hits_are_no_evidence_for_an_arm() -> None:
    """The same answer given again tells nothing new, and would hide what the calls do."""

    async def scene() -> None:
        told = house(replace(CACHED, rollout=Rollout(RolloutMode.AB, arms=(Arm("a", 0.5), Arm("b", 0.5)))))
        for i in range(20):
            await told.ask(f"r{i}", payload=HELLO)
        for _ in range(10):
            told.dispatcher.tick()
        assert {e.requests for e in told.of(ExperimentObserved)} == {1}

    virtually(scene)


def test_an_answer_is_given_until_its_time_is_over() -> None:
    """The time counts from the end of the answer; a hit does not prolong it."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        await asyncio.sleep(59.9)
        await told.ask("b", payload=HELLO)
        await asyncio.sleep(0.2)
        await told.ask("c", payload=HELLO)
        assert used(told) == ["miss", "hit", "miss"]

    virtually(scene)


def test_a_class_without_a_cache_asks_every_time() -> None:
    """And tells nothing of a cache."""

    async def scene() -> None:
        told = house(replace(CACHED, cache=None))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == 2
        assert used(told) == []

    virtually(scene)


@pytest.mark.parametrize(
    ("request_class", "fields", "results"),
    [
        (CACHED, {"temperature": 0.1}, ["bypass", "bypass"]),
        (RequestClass("all", cache=TERMS), {}, ["bypass", "bypass"]),
        (RequestClass("all", cache=TERMS), {"temperature": 0}, ["miss", "hit"]),
        (RequestClass("all", cache=TERMS), {"temperature": 0, "n": 3}, ["miss", "hit"]),
        (RequestClass("all", cache=CacheTerms(60.0, always=True)), {"temperature": 1.5}, ["miss", "hit"]),
        (RequestClass("all", cache=CacheTerms(60.0, always=True)), {}, ["miss", "hit"]),
        (CACHED, {"tools": [{"type": "function", "function": {"name": "f"}}]}, ["miss", "hit"]),
    ],
)
def test_only_what_is_deterministic_is_kept(
    request_class: RequestClass, fields: dict[str, Any], results: list[str]
) -> None:
    """Temperature 0, asked for or filled in; anything where the class says always. The backend's default is not 0."""

    async def scene() -> None:
        told = house(request_class)
        await told.ask("a", payload=body(**fields))
        await told.ask("b", payload=body(**fields))
        assert used(told) == results

    virtually(scene)


def test_a_request_without_a_body_is_not_cached() -> None:
    """Requests of a workload have none, and are not all the same."""

    async def scene() -> None:
        told = house()
        await told.ask("a")
        await told.ask("b")
        assert used(told) == ["bypass", "bypass"]

    virtually(scene)


@pytest.mark.parametrize(("always", "calls"), [(False, 2), (True, 1)])
def test_a_deployment_that_takes_no_temperature_is_not_deterministic(always: bool, calls: int) -> None:
    """What the class fills in does not reach it, so its answer is given again only where the class says always."""

    async def scene() -> None:
        fixed = deployment("fixed", takes=frozenset({Sampling.MAX_TOKENS}))
        told = house(replace(CACHED, cache=CacheTerms(60.0, always)), deployments=(fixed,))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "calls"), [("stop", 1), ("length", 1), ("tool_calls", 1), (None, 2), ("content_filter", 2), ("error", 2)]
)
def test_only_a_finished_answer_is_kept(reason: str | None, calls: int, stream: bool) -> None:
    """An answer that does not say how it ended, or was cut by something other than its bound, is made again."""

    async def scene() -> None:
        told = house()
        told.backend.scripts = {"only": ending(reason)}
        await told.ask("a", payload=HELLO, responder=Reader() if stream else None)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


@pytest.mark.parametrize(
    ("parameters", "calls"), [(Parameters(0.0, max_tokens=9), 1), (Parameters(0.0, ceiling=Ceiling(9)), 2)]
)
def test_an_answer_that_a_learned_bound_cut_off_is_made_again(parameters: Parameters, calls: int) -> None:
    """The bound may have risen since; a fixed one is part of the question."""

    async def scene() -> None:
        told = house(replace(CACHED, parameters=parameters))
        told.backend.scripts = {"only": ending("length")}
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == calls

    virtually(scene)


def test_a_failure_is_not_kept() -> None:
    """The next who asks gets a call of its own."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        told.backend.scripts = {"only": failing_once(Unreachable("gone"))}
        assert isinstance(await told.attempt("a", payload=HELLO), Unreachable)
        assert text(await told.ask("b", payload=HELLO)) == ANSWER
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_an_answer_cut_by_the_deadline_is_not_kept() -> None:
    """It failed."""

    async def scene() -> None:
        told = house()
        assert isinstance(await told.attempt("a", payload=HELLO, deadline_s=0.15), Expired)
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_thirty_two_who_ask_at_once_make_one_call() -> None:
    """All get the answer when it is there; one was asked, the others joined."""

    async def scene() -> None:
        told = house()
        replies = await asyncio.gather(*(told.ask(f"r{i}", payload=HELLO) for i in range(32)))
        assert asyncio.get_running_loop().time() == pytest.approx(0.3)
        assert {text(reply) for reply in replies} == {ANSWER}
        assert len(told.backend.calls) == 1
        assert sorted(used(told)) == ["joined"] * 31 + ["miss"]
        joined = replies[-1].receipt
        assert (joined.cache, joined.cost_usd, joined.queue_s) == ("joined", 0.0, pytest.approx(0.3))
        assert joined.overhead_s == pytest.approx(0.0)
        assert {e.deployment for e in told.of(RequestEnded)} == {"only", CACHE}
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_where_the_leader_fails_the_next_makes_the_call() -> None:
    """One call more, not one for each who waits; only the leader fails."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        told.backend.scripts = {"only": failing_once(Unreachable("gone"))}
        tasks = [told.going(f"r{i}", payload=HELLO) for i in range(32)]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [code_of(task) for task in tasks] == ["unreachable"] + ["ok"] * 31
        assert len(told.backend.calls) == 2
        assert used(told).count("joined") == 30

    virtually(scene)


def test_where_every_call_fails_everybody_is_told_in_turn() -> None:
    """Nobody waits for ever, and never is more than one call under way."""

    async def scene() -> None:
        told = house(replace(CACHED, max_retries=0))
        most = 0

        async def failing(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            nonlocal most
            most = max(most, told.backend.open_now)
            await asyncio.sleep(0.1)
            raise Unreachable("gone")
            yield

        told.backend.scripts = {"only": failing}
        outcomes = await asyncio.gather(*(told.attempt(f"r{i}", payload=HELLO) for i in range(3)))
        assert all(isinstance(outcome, RouterError) for outcome in outcomes)
        assert most == 1
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_where_the_leader_hangs_up_the_next_makes_the_call() -> None:
    """Its own call is closed at once."""

    async def scene() -> None:
        told = house()
        leader = told.going("leader", payload=HELLO)
        followers = [told.going(f"r{i}", payload=HELLO) for i in range(3)]
        await asyncio.sleep(0.15)
        await cancel(leader)
        replies = await asyncio.gather(*followers)
        assert {text(reply) for reply in replies} == {ANSWER}
        assert len(told.backend.calls) == 2
        assert asyncio.get_running_loop().time() == pytest.approx(0.45)
        assert [e.code for e in told.of(RequestEnded) if e.code] == ["client_gone"]

    virtually(scene)


def test_a_follower_that_hangs_up_disturbs_nobody() -> None:
    """It is told of as gone; the others are answered by the one call."""

    async def scene() -> None:
        told = house()
        leader, gone, last = (told.going(name, payload=HELLO) for name in ("a", "b", "c"))
        await asyncio.sleep(0.1)
        await cancel(gone)
        assert text(await leader) == text(await last) == ANSWER
        assert len(told.backend.calls) == 1
        (rejected,) = told.of(RequestRejected)
        assert (rejected.code, rejected.stage) == ("client_gone", "queue")

    virtually(scene)


class Doomed(House):
    """A house where `heir` hangs up in the very moment in which the leader is told to have gone."""

    heir: asyncio.Task[Reply] | None = None

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, RequestEnded) and event.code and self.heir is not None:
            self.heir.cancel()


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_turn_is_not_lost_with_the_follower_that_had_it(others: int) -> None:
    """A follower that hangs up between being told to lead and leading passes the turn on; so does the last of all."""

    async def scene() -> None:
        told = Doomed(CACHED, deployments=ONLY)
        leader = told.going("leader", payload=HELLO)
        told.heir = told.going("heir", payload=HELLO)
        rest = [told.going(f"r{i}", payload=HELLO) for i in range(others)]
        await asyncio.sleep(0.1)
        await cancel(leader)
        replies = await asyncio.gather(*rest, told.ask("new", payload=HELLO))
        assert {text(reply) for reply in replies} == {ANSWER}
        assert told.heir.cancelled()
        assert len(told.backend.calls) == 2
        assert told.in_flight() == told.dispatcher.in_flight == 0

    virtually(scene)


def test_all_who_wait_may_leave() -> None:
    """What is left behind is clean: the next question is asked anew."""

    async def scene() -> None:
        told = house()
        tasks = [told.going(f"r{i}", payload=HELLO) for i in range(5)]
        await asyncio.sleep(0.1)
        await cancel(*tasks)
        assert told.in_flight() == told.dispatcher.in_flight == 0
        assert text(await told.ask("new", payload=HELLO)) == ANSWER
        assert used(told)[-1] == "miss"

    virtually(scene)


def test_a_follower_waits_no_longer_than_its_own_deadline() -> None:
    """The leader goes on."""

    async def scene() -> None:
        told = house()
        leader = told.going("leader", payload=HELLO)
        await asyncio.sleep(0.0)
        late = await told.attempt("late", payload=HELLO, deadline_s=0.2)
        assert isinstance(late, Expired)
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)
        (rejected,) = told.of(RequestRejected)
        assert (rejected.code, rejected.stage) == ("deadline_exceeded", "queue")
        assert text(await leader) == ANSWER

    virtually(scene)


def test_an_answer_that_is_not_fit_lets_all_who_wait_call_at_once() -> None:
    """As without a cache: they do not wait for one another again."""

    async def scene() -> None:
        told = house()
        told.backend.scripts = {"only": ending("content_filter")}
        await asyncio.gather(*(told.ask(f"r{i}", payload=HELLO) for i in range(5)))
        assert len(told.backend.calls) == 5
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)

    virtually(scene)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("leads", "follows"), [(False, True), (True, False), (True, True)])
def test_streams_and_whole_answers_serve_one_another(leads: bool, follows: bool, at_once: bool) -> None:
    """A stream is put together for who wants the whole; a stream that comes later gets the whole in one piece."""

    async def scene() -> None:
        told, one, two = house(), Reader(), Reader()
        first = told.going("a", payload=body(stream=leads), stream=leads, responder=one if leads else None)
        await asyncio.sleep(0.0)
        if not at_once:
            await first
        second = await told.ask("b", payload=body(stream=follows), stream=follows, responder=two if follows else None)
        made = await first
        assert len(told.backend.calls) == 1
        assert second.receipt.cache == ("joined" if at_once else "hit")
        assert second.usage == made.usage
        if leads:
            assert (len(one.pieces), one.finished) == (3, ["stop"])
        if follows:
            assert (two.begun, two.finished, second.choices) == (["only"], ["stop"], b"[]")
            (piece,) = two.pieces
            assert json.loads(piece)[0]["message"]["content"] == ANSWER
        else:
            assert text(second) == ANSWER

    virtually(scene)


def test_a_stream_goes_out_as_it_comes_to_who_asked_first() -> None:
    """Keeping it delays nothing."""

    async def scene() -> None:
        told, reader = house(), Reader()
        task = told.going("a", payload=HELLO, stream=True, responder=reader)
        await asyncio.sleep(0.25)
        assert len(reader.pieces) == 2
        await task

    virtually(scene)


def test_pieces_that_cannot_be_put_together_are_passed_on_all_the_same() -> None:
    """The stream ends well, and nothing is kept of it."""

    async def scene() -> None:
        async def odd(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            yield Delta(b'["odd"]', 1, "stop")

        told, reader = house(), Reader()
        told.backend.scripts = {"only": odd}
        await told.ask("a", payload=HELLO, stream=True, responder=reader)
        assert reader.pieces == [b'["odd"]']
        told.backend.scripts = {}
        assert text(await told.ask("b", payload=HELLO)) == ANSWER

    virtually(scene)


def test_a_reader_that_goes_while_it_is_given_a_hit_is_told_of() -> None:
    """The answer stays for the next."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        slow = told.going("b", payload=HELLO, stream=True, responder=Reader(piece_s=60.0))
        await asyncio.sleep(1.0)
        await cancel(slow)
        (rejected,) = told.of(RequestRejected)
        assert rejected.code == "client_gone"
        assert text(await told.ask("c", payload=HELLO)) == ANSWER
        assert len(told.backend.calls) == 1

    virtually(scene)


def edited(told: House, digest: str, request_class: RequestClass, **fields: Any) -> None:
    policy = Policy(digest, (request_class,), fields.get("deployments", told.listed), told.bounds)
    told.controller.apply(policy, now=asyncio.get_running_loop().time(), at=0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": Parameters(temperature=0.0, top_p=0.5)},
        {"deployments": ("small",)},
        {"input_budget_tokens": 10_000},
        {"cache": CacheTerms(30.0)},
    ],
)
def test_an_edit_of_the_class_asks_anew(change: dict[str, Any]) -> None:
    """Whatever the class means otherwise; and taking the edit back finds the old answers again."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED, **change))
        await told.attempt("b", payload=HELLO)
        edited(told, "p3", replace(CACHED))
        await told.ask("c", payload=HELLO)
        assert used(told) == ["miss", "miss", "hit"]

    virtually(scene)


def test_an_edit_elsewhere_keeps_the_answers() -> None:
    """Another digest of the policy, the same class."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED), deployments=(*ONLY, deployment("more")))
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "hit"]

    virtually(scene)


@pytest.mark.parametrize("listed", [(deployment("new"),), (replace(deployment("only"), model="newer"),)])
def test_an_answer_goes_with_the_model_that_made_it(listed: tuple[Any, ...]) -> None:
    """A deployment taken out, or with another model under its name, is not quoted any more."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        edited(told, "p2", replace(CACHED), deployments=listed)
        await told.ask("b", payload=HELLO)
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_a_class_keeps_no_more_answers_than_it_says() -> None:
    """The least recently used goes first."""

    async def scene() -> None:
        told = house(replace(CACHED, cache=CacheTerms(60.0, max_entries=2)))
        for question in ("a", "b", "a", "c", "a", "b"):
            await told.ask(question, payload=body(question))
        assert used(told) == ["miss", "miss", "hit", "miss", "hit", "miss"]

    virtually(scene)


def test_a_hit_needs_no_deployment_and_no_journal() -> None:
    """It is answered while the deployment hangs, and nobody is told that a call is about to be made."""

    async def scene() -> None:
        told = house()
        noted: list[str] = []

        async def on_call() -> None:
            noted.append("call")

        await told.ask("a", payload=HELLO, on_call=on_call)
        told.backend.scripts = {"only": never}
        assert text(await told.ask("b", payload=HELLO, on_call=on_call)) == ANSWER
        assert noted == ["call"]

    virtually(scene)


def test_calls_that_an_earlier_life_made_are_still_told() -> None:
    """A message that a crash cut off and the cache answers now had its attempts."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        reply = await told.ask("b", payload=HELLO, attempts_before=2)
        assert reply.receipt.attempts == 2

    virtually(scene)


def test_a_retried_answer_costs_what_was_paid() -> None:
    """What a hit saves is all that the answer had cost; the receipt names the deployment that answered in the end."""

    async def scene() -> None:
        async def half(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            yield Delta(delta_choices("x"), 1)
            raise Unreachable("gone")

        told = house(deployments=RETRIED)
        told.backend.scripts = {"two": half, "one": well}
        made = await told.ask("a", payload=HELLO)
        given = await told.ask("b", payload=HELLO)
        assert told.backend.calls == ["two", "one"]
        assert given.receipt.deployment == "one"
        assert told.of(CacheUsed)[-1].saved_usd == made.receipt.cost_usd > 13e-6

    virtually(scene)
