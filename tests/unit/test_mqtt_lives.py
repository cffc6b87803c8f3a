"""One life of the router after another: what is open goes on, what is answered stays answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from router.domain.errors import Rejected
from router.ports.journal import Published, Received
from tests.unit.mqtt_world import HELLO, WAIT_S, Worlds, code, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_what_a_former_life_left_is_answered(worlds: Worlds) -> None:
    """Received only, cut in a call, and answered but not delivered: each gets its reply, the last without a call."""
    async with worlds() as world:
        producer = await world.producer()
        base = Received("", "router/requests/chat", HELLO, "replies/1", None, (), world.clock.at - 5.0, None)
        left = {name: _with_id(base, name) for name in ("received", "cut", "answered")}
        for each in left.values():
            await world.sqlite.receive(each)
        await world.sqlite.call_started(left["cut"].key)
        await world.sqlite.answered(left["answered"].key, (Published(b"kept", (("request-id", "answered"),)),))
        await world.start()
        replies = {fields(reply)["request-id"]: reply for reply in await producer.get(3)}
        assert replies["answered"].payload == b"kept"
        assert fields(replies["received"])["router-attempts"] == "1"
        assert fields(replies["cut"])["router-attempts"] == "2"
        assert {(call.id, call.attempts_before) for call in world.dispatch.calls} == {("received", 0), ("cut", 1)}
        assert world.dispatch.calls[0].arrived == world.clock.now - 5.0
        assert (world.sink.count("recovered"), world.sink.count("cut_call")) == (3, 1)


def _with_id(received: Received, request_id: str) -> Received:
    return Received(
        request_id,
        received.topic,
        received.payload,
        received.response_topic,
        received.correlation_data,
        (("request-id", request_id),),
        received.received_at,
        received.expires_at,
    )


async def test_a_deadline_runs_on_while_the_router_is_down(worlds: Worlds) -> None:
    """What expired meanwhile is answered so, without a call; what did not has the rest of its time."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask("short", message_expiry_interval=10)
        producer.ask("long", message_expiry_interval=60)
        await world.dispatch.called(2)
        await world.kill()
        world.clock.pass_by(20.0)
        world.dispatch.gate.set()
        await world.start()
        replies = {fields(reply)["request-id"]: reply for reply in await producer.get(2)}
        assert code(replies["short"]) == "deadline_exceeded"
        assert json.loads(replies["long"].payload)["object"] == "chat.completion"
        assert [(call.id, call.deadline) for call in world.dispatch.calls[2:]] == [("long", world.clock.now + 40.0)]


async def test_stop_finishes_what_is_open(worlds: Worlds) -> None:
    """Within the grace: answered, published, delivered."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        ingress = await world.start()
        producer = await world.producer()
        producer.ask()
        await world.dispatch.called()
        stopping = asyncio.create_task(ingress.stop(WAIT_S))
        await asyncio.sleep(0)
        world.dispatch.gate.set()
        await stopping
        assert fields(await producer.one())["request-id"] == "r1"
        assert await world.sqlite.unfinished() == ()


async def test_what_stop_does_not_wait_for_stays_in_the_journal(worlds: Worlds) -> None:
    """And what comes after it stays with the broker; the next life answers both."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        ingress = await world.start()
        producer = await world.producer()
        producer.ask("open")
        await world.dispatch.called()
        await ingress.stop(0.0)
        producer.ask("later")
        await producer.client.flushed()
        assert [entry.received.request_id for entry in await world.sqlite.unfinished()] == ["open"]
        world.dispatch.gate.set()
        await world.start()
        assert {fields(reply)["request-id"] for reply in await producer.get(2)} == {"open", "later"}


async def test_a_draining_router_leaves_its_requests_to_the_next_life(worlds: Worlds) -> None:
    """`draining` is no answer: the journal keeps the request."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("stopping", code="draining"))
        await world.start()
        producer = await world.producer()
        producer.ask()
        producer.ask("r2")
        assert fields(await producer.one())["request-id"] == "r2"
        await world.kill()
        await world.start()
        assert fields(await producer.one())["request-id"] == "r1"
