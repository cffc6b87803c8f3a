"""A second call beside a silent first: one answer, told as what it was, whatever goes wrong with the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from router.domain.deployment import Tier
from router.domain.errors import ProtocolError, RouterError, Unreachable
from router.domain.events import AttemptEnded, RequestEnded
from router.domain.outcome import Attempt, Delta, Receipt, Usage
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.domain.view import Health
from router.wire.openai import delta_choices
from tests.regressions.house import (
    STEP_S,
    WHOLE,
    House,
    Reader,
    cancel,
    deployment,
    failing,
    never,
    speaking,
    virtually,
    well,
)

_HEDGED = RequestClass("all", hedge_after_s=0.5)


@pytest.mark.parametrize("note_s", [0.0, 0.05, 0.1, 0.3, 1.0])
def test_two_answers_are_never_mixed_into_one_stream(note_s: float) -> None:
    """The first speaks while the rival is still being announced, or at the same instant: the reader gets one begin
    and the words of one model, all of them."""

    async def scene() -> None:
        house, client = House(_HEDGED), Reader()
        house.backend.scripts = {
            "large": speaking("L", first_s=0.6, gap_s=0.2),
            "small": speaking("S", first_s=0.0, gap_s=0.2),
        }

        async def note() -> None:
            if house.backend.calls:
                await asyncio.sleep(note_s)

        reply = await house.ask(stream=True, responder=client, on_call=note)
        letter, other = ("L", "S") if reply.receipt.deployment == "large" else ("S", "L")
        assert client.begun == [reply.receipt.deployment]
        assert client.finished == ["stop"]
        assert all(f"{letter}{i} " in client.text() for i in range(5))
        assert f'"{other}' not in client.text()
        assert (house.in_flight(), house.backend.open_now) == (0, 0)

    virtually(scene)


def test_a_rival_that_comes_too_late_is_never_made() -> None:
    """The first speaks while the rival is still being announced: the other backend is not called, nor paid."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": speaking("L", first_s=0.6)}

        async def note() -> None:
            if house.backend.calls:
                await asyncio.sleep(0.3)

        reply = await house.ask(on_call=note)
        assert house.backend.calls == ["large"]
        assert reply.receipt.cost_usd == pytest.approx(15e-6)
        assert house.in_flight() == 0

    virtually(scene)


def test_a_loser_that_does_not_listen_keeps_out_of_the_stream() -> None:
    """A backend that swallows its cancellation and goes on to speak is not heard."""

    async def stubborn(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100.0)
        async for delta in speaking("L", first_s=0.0)(attempt):
            yield delta

    async def scene() -> None:
        house, client = House(_HEDGED), Reader()
        house.backend.scripts = {"large": stubborn, "small": speaking("S", first_s=0.1, gap_s=0.1)}
        await house.ask(stream=True, responder=client)
        assert (client.begun, client.finished) == (["small"], ["stop"])
        assert '"L' not in client.text()
        assert (house.in_flight(), house.backend.open_now) == (0, 0)

    virtually(scene)


class SlowToBegin(Reader):
    """A reader that takes a while to open its answer."""

    async def begin(self, receipt: Receipt) -> None:
        await super().begin(receipt)
        await asyncio.sleep(0.5)


def test_a_first_that_ends_without_a_token_keeps_its_rival_out_of_the_stream() -> None:
    """A filtered answer has spoken too, also while its reader is slow to open."""

    async def filtered(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.6)
        yield Delta(delta_choices("", finish_reason="content_filter"), 0, "content_filter", Usage(10, 0))

    async def scene() -> None:
        house, client = House(_HEDGED), SlowToBegin()
        house.backend.scripts = {"large": filtered, "small": speaking("S", first_s=0.2)}
        reply = await house.ask(stream=True, responder=client)
        assert (client.begun, client.finished) == (["large"], ["content_filter"])
        assert reply.receipt.deployment == "large"

    virtually(scene)


@pytest.mark.parametrize("winner", ["large", "small"])
def test_the_story_of_a_hedged_request_names_who_answered(winner: str) -> None:
    """Receipt and event agree on deployment, model, tier and decision, whichever call was decided last."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": never, "small": never, winner: speaking("x", first_s=1.0)}
        receipt = (await house.ask()).receipt
        ended = house.only(RequestEnded)
        assert (receipt.deployment, receipt.attempts) == (winner, 2)
        assert (ended.deployment, ended.model, ended.tier) == (winner, f"model-{winner}", winner)
        assert ended.decision_id == receipt.decision_id

    virtually(scene)


@pytest.mark.parametrize("error", [RouterError("disk full"), OSError("disk")], ids=repr)
def test_a_rival_that_cannot_start_leaves_the_first_alone(error: Exception) -> None:
    """A journal that fails at the second call only: the first answers, and the rival costs nothing."""

    async def scene() -> None:
        house, notes = House(_HEDGED), []
        house.backend.scripts = {"large": speaking("x", first_s=1.0)}

        async def note() -> None:
            notes.append(1)
            if len(notes) == 2:
                raise error

        reply = await house.ask(on_call=note)
        assert reply.receipt.deployment == "large"
        assert house.backend.calls == ["large"]
        assert reply.receipt.cost_usd == pytest.approx(15e-6)
        assert house.in_flight() == 0

    virtually(scene)


def test_a_hedge_without_room_costs_no_retry() -> None:
    """The budget of retries is spent on calls, not on finding that the other deployment is full."""

    async def scene() -> None:
        house = House(_HEDGED, deployments=(deployment("a"), deployment("b", max_in_flight=1)))
        house.backend.scripts = {"a": speaking("x", first_s=1.0), "b": never}
        filling = house.going("filling", model="b")
        await asyncio.sleep(0.0)
        before = house.controller.retries.tokens
        for i in range(5):
            await house.ask(f"r{i}")
        assert house.backend.calls == ["b"] + ["a"] * 5
        assert house.controller.retries.tokens == before
        await cancel(filling)

    virtually(scene)


def test_a_hedge_is_paid_from_the_budget_of_retries() -> None:
    """And there is none where the budget is spent."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": speaking("x", first_s=1.0), "small": never}
        house.controller.retries.tokens = 1.5
        assert [(await house.ask(f"r{i}")).receipt.attempts for i in range(2)] == [2, 1]
        assert house.backend.calls == ["large", "small", "large"]

    virtually(scene)


@pytest.mark.parametrize("raised", [KeyError("bug"), asyncio.CancelledError(), Unreachable("gone")], ids=repr)
@pytest.mark.parametrize("ill", ["large", "small"])
def test_what_breaks_one_hedged_call_leaves_the_healthy_other(raised: BaseException, ill: str) -> None:
    """A bug or a failure in either call is that call's own."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {
            "large": speaking("x", first_s=2.0),
            "small": speaking("x", first_s=2.0),
            ill: failing(raised, after_s=1.0),
        }
        reply = await house.ask()
        assert reply.receipt.deployment == ({"large", "small"} - {ill}).pop()
        assert reply.receipt.attempts == 2
        assert (house.in_flight(), house.backend.open_now) == (0, 0)

    virtually(scene)


@pytest.mark.parametrize("raised", [KeyError("bug"), asyncio.CancelledError()], ids=repr)
def test_a_hedged_class_takes_a_broken_call_for_a_failed_one(raised: BaseException) -> None:
    """Also when the call breaks before there is a rival: it is retried, the request is not cancelled."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": failing(raised)}
        assert (await house.ask()).receipt.deployment == "small"
        assert house.of(AttemptEnded)[0].outcome.error_code == "protocol_error"

    virtually(scene)


def test_a_winner_that_breaks_is_told_while_the_loser_is_slow_to_close() -> None:
    """The answer is the winner's error, once, and nothing is left open."""

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5, max_retries=0))
        house.backend.scripts = {
            "large": speaking("x", first_s=100.0, close_s=0.05),
            "small": failing(ProtocolError("cut"), tokens=1),
        }
        with pytest.raises(ProtocolError, match="cut"):
            await house.ask()
        assert house.only(RequestEnded).code == "protocol_error"
        assert (house.in_flight(), house.backend.open_now) == (0, 0)

    virtually(scene)


def test_a_sender_that_leaves_ends_both_calls() -> None:
    """Cancelling a hedged request is told as such and frees both deployments."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": never, "small": never}
        task = house.going()
        await asyncio.sleep(1.0)
        assert house.in_flight() == 2
        await cancel(task)
        assert (house.in_flight(), house.backend.open_now) == (0, 0)
        assert house.only(RequestEnded).code == "client_gone"

    virtually(scene)


@pytest.mark.parametrize(("after_s", "stream"), [(0.5, False), (0.5, True), (2.0, True)])
def test_a_deployment_that_always_loses_its_hedges_is_left_alone(after_s: float, stream: bool) -> None:
    """Silence that a rival cut short is silence all the same: its circuit opens after a few."""

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=after_s))
        house.backend.scripts = {"large": never}
        for i in range(20):
            await house.ask(f"r{i}", stream=stream)
            house.dispatcher.tick()
        assert house.member("large").circuit.health is not Health.OK
        assert house.backend.calls.count("large") < 10

    virtually(scene)


def test_a_rival_that_loses_is_not_ill() -> None:
    """It was asked later: that the first spoke first says nothing of it."""

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": speaking("x", first_s=1.0), "small": never}
        for i in range(10):
            assert (await house.ask(f"r{i}")).receipt.deployment == "large"
        assert house.member("small").circuit.health is Health.OK

    virtually(scene)


def test_an_occasional_lost_hedge_is_forgiven() -> None:
    """Two of three lost, again and again: a call that answers in between shows that it is well."""

    async def scene() -> None:
        house = House(_HEDGED)
        for i in range(30):
            house.backend.scripts = {"large": well if i % 3 == 0 else never}
            await house.ask(f"r{i}")
        assert house.backend.calls.count("large") == 30
        assert house.member("large").circuit.health is Health.OK

    virtually(scene)


def test_a_long_answer_is_not_taken_for_silence() -> None:
    """A hedged class listens to the tokens although its sender wants one body: a healthy call gets no rival."""

    async def long(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        if attempt.stream:
            async for delta in speaking("x", first_s=0.1, tokens=100)(attempt):
                yield delta
        else:
            await asyncio.sleep(0.1 + 99 * STEP_S)
            yield WHOLE

    async def scene() -> None:
        house = House(_HEDGED)
        house.backend.scripts = {"large": long, "small": long}
        assert (await house.ask()).receipt.attempts == 1
        assert house.backend.calls == ["large"]

    virtually(scene)


_PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 3.0))


def test_a_deployment_that_speaks_in_time_keeps_its_circuit_closed_when_senders_leave() -> None:
    """Calls given up in the middle of their answers, or soon, are no illness."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=_PROMISE), deployments=(deployment("large", Tier.LARGE),))
        for first_s, leave_s in ((0.1, 5.0), (1.0, 0.5)):
            house.backend.scripts = {"large": speaking("x", first_s=first_s, gap_s=2.0)}
            tasks = [house.going(f"r{i}", stream=True) for i in range(5)]
            await asyncio.sleep(leave_s)
            await cancel(*tasks)
        assert house.member("large").circuit.health is Health.OK

    virtually(scene)
