"""What a streaming reader gets, whatever happens behind it, and what its pace says of the deployment: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from router.domain.deployment import Address, Tier
from router.domain.errors import Unreachable
from router.domain.events import AttemptEnded
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.wire.openai import delta_choices
from tests.regressions.house import STEP_S, House, Reader, deployment, failing_once, speaking, virtually


def test_a_deployment_replaced_under_a_running_stream_still_delivers_every_piece() -> None:
    """Removed and added again with another address: the answer begins once, is whole, and is measured."""

    async def scene() -> None:
        house, client = House(), Reader()
        task = house.going(model="large", stream=True, responder=client)
        await asyncio.sleep(0.05)
        moved = deployment("large", Tier.LARGE, address=Address("scripted", "elsewhere"))
        house.controller.apply(Policy("p2", house.classes, (deployment("small"),)), now=0.0, at=0.0)
        house.controller.apply(Policy("p3", house.classes, (deployment("small"), moved)), now=0.0, at=0.0)
        reply = await task
        assert (client.begun, len(client.pieces), client.finished) == (["large"], 3, ["stop"])
        assert reply.receipt.ttft_s == pytest.approx(0.1)
        assert house.only(AttemptEnded).first_token_s == pytest.approx(0.1)
        assert house.in_flight() == 0

    virtually(scene)


def test_an_old_request_does_not_decide_who_may_serve_new_ones() -> None:
    """A request that is retried across a change of its class leaves later ones to the new class."""

    async def scene() -> None:
        house = House(RequestClass("all", deployments=("large",)))
        house.backend.scripts = {"large": failing_once(Unreachable("blip"))}
        old = house.going("old")
        await asyncio.sleep(0.05)
        listed = (RequestClass("all", deployments=("small",)),)
        house.controller.apply(Policy("p2", listed, house.listed), now=0.0, at=0.0)
        await old
        assert (await house.ask("new")).receipt.deployment == "small"

    virtually(scene)


async def filtered(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """No token, only a role and a reason to stop."""
    yield Delta(delta_choices("", role=True))
    await asyncio.sleep(0.1)
    yield Delta(delta_choices("", finish_reason="content_filter"), 0, "content_filter", Usage(10, 0))


def test_a_stream_without_a_token_reaches_its_reader_with_its_finish_reason() -> None:
    """A filtered answer is an answer: it begins, ends, and says why."""

    async def scene() -> None:
        house, client = House(), Reader()
        house.backend.scripts = {"large": filtered}
        reply = await house.ask(stream=True, responder=client)
        assert (client.begun, len(client.pieces), client.finished) == (["large"], 2, ["content_filter"])
        assert reply.usage.output_tokens == 0
        assert house.only(AttemptEnded).outcome.finish_reason == "content_filter"
        assert b"content_filter" in (await house.ask("whole")).choices

    virtually(scene)


_PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))


def test_a_slow_reader_does_not_make_its_deployment_look_slow() -> None:
    """Half a second a piece is the reader's own time: neither the multiplier nor the expected gap moves."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=_PROMISE), deployments=(deployment("only"),))
        house.backend.scripts = {"only": speaking("x", first_s=0.03, tokens=64)}
        for _ in range(3):
            client = Reader(0.5)
            await house.ask(stream=True, responder=client)
            assert len(client.pieces) == 65
        latency = house.member("only").latency
        assert latency.multiplier == pytest.approx(1.0, rel=0.15)
        assert latency.tpot.p_within(STEP_S, 2.0 * STEP_S) > 0.99

    virtually(scene)


def test_a_quick_reader_of_a_slow_deployment_still_shows_it() -> None:
    """What is kept out is the reader's time only."""

    async def scene() -> None:
        house = House(RequestClass("all", objectives=_PROMISE), deployments=(deployment("only"),))
        house.backend.scripts = {"only": speaking("x", first_s=0.03, tokens=64, gap_s=3.0 * STEP_S)}
        for _ in range(3):
            await house.ask(stream=True, responder=Reader(0.01))
        latency = house.member("only").latency
        assert latency.multiplier > 2.0

    virtually(scene)
