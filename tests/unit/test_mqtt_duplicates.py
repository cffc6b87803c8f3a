"""The same request twice over the queue: what is answered again, what is a fresh try, what is a conflict."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from router.domain.errors import Expired, Rejected, RequestError, RouterError, Throttled
from router.ingress.mqtt_exchange import sticks
from router.ports.journal import Published, Received
from router.wire.mqtt import content_id
from router.wire.mqtt_packet import Publish
from tests.unit.mqtt_world import HELLO, WAIT_S, Worlds, code, content, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_a_duplicate_is_answered_byte_for_byte_without_a_call(worlds: Worlds) -> None:
    """Payload and user properties are the first reply's; the correlation data is the asker's own."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask()
        first = await producer.one()
        producer.ask(correlation_data=b"again", response_topic="replies/2")
        second = await producer.one()
        assert content(second) == content(first)
        assert (second.topic, second.correlation_data) == ("replies/2", b"again")
        assert len(world.dispatch.calls) == 1
        assert world.sink.count("duplicate") == 1


async def test_duplicates_in_flight_get_the_one_answer_each(worlds: Worlds) -> None:
    """Whoever asks while the first is being answered is acknowledged at once and answered with it."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask()
        producer.ask(response_topic="replies/2", correlation_data=b"c2")
        producer.ask()
        await world.sink.saw("duplicate", 2)
        world.dispatch.gate.set()
        replies = await producer.get(2)
        assert {(r.topic, r.correlation_data) for r in replies} == {("replies/1", b"c1"), ("replies/2", b"c2")}
        assert content(replies[0]) == content(replies[1])
        producer.ask("r2")
        assert fields(await producer.one())["request-id"] == "r2", "the same asker was not answered twice"
        assert len(world.dispatch.calls) == 2


async def test_an_id_with_another_body_is_a_conflict(worlds: Worlds) -> None:
    """It is told so, and the first is answered as if nothing had come."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.dispatch.called()
        other = b'{"messages":[{"role":"user","content":"other"}]}'
        producer.ask(body=other, correlation_data=b"c2")
        conflict = await producer.one()
        assert (code(conflict), conflict.correlation_data) == ("idempotency_conflict", b"c2")
        world.dispatch.gate.set()
        assert json.loads((await producer.one()).payload)["object"] == "chat.completion"
        producer.ask(body=other)
        assert code(await producer.one()) == "idempotency_conflict"
        assert len(world.dispatch.calls) == 1


async def test_tenants_have_their_own_ids(worlds: Worlds) -> None:
    """The same request-id of two tenants is two requests."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        for tenant in ("a", "b"):
            producer.ask(properties=[("tenant", tenant)])
        assert {fields(r)["router-decision-id"] for r in await producer.get(2)} == {"d-1", "d-2"}


async def test_a_retry_after_a_shed_is_a_fresh_try(worlds: Worlds) -> None:
    """A refusal that may pass is delivered, then forgotten; the retry may even carry another body."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("full", retry_after_s=1.5))
        await world.start()
        producer = await world.producer()
        producer.ask()
        shed = await producer.one()
        assert (code(shed), fields(shed)["router-retry-after-s"]) == ("overloaded", "1.500")
        producer.ask(body=HELLO.replace(b"hello", b"retry"))
        assert json.loads((await producer.one()).payload)["object"] == "chat.completion"


async def test_a_retry_that_overtakes_its_refusal_waits_and_is_a_fresh_try(worlds: Worlds) -> None:
    """Between the refusal and its delivery a duplicate does not join the dying exchange."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("full"))
        world.journal.hold = "answered"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        producer.ask(correlation_data=b"c2")
        await producer.so_far()
        world.journal.gate.set()
        first, second = await producer.get(2)
        assert (code(first), first.correlation_data) == ("overloaded", b"c1")
        assert (json.loads(second.payload)["object"], second.correlation_data) == ("chat.completion", b"c2")


@pytest.mark.parametrize(
    ("error", "calls", "expected"),
    [
        (RequestError("x", code="model_not_found"), 0, True),
        (Expired("x"), 0, False),
        (Expired("x"), 1, True),
        (Rejected("x"), 0, False),
        (Rejected("x", code="insufficient_quota"), 0, False),
        (Throttled("x"), 2, False),
        (RouterError("a bug"), 1, False),
    ],
)
def test_which_errors_stick(error: RouterError, calls: int, expected: bool) -> None:
    """Those that a retry would not change; and an expiry once a call may have been paid."""
    assert sticks(error, calls) is expected


async def test_an_error_that_sticks_is_answered_again(worlds: Worlds) -> None:
    """Byte for byte, without asking the dispatcher."""
    async with worlds() as world:
        world.dispatch.errors.append(RequestError("no such model", code="model_not_found"))
        await world.start()
        producer = await world.producer()
        producer.ask()
        first = await producer.one()
        producer.ask()
        assert content(await producer.one()) == content(first)
        assert code(first) == "model_not_found"


async def test_a_message_without_id_is_answered_each_time_it_is_sent(worlds: Worlds) -> None:
    """Equal messages are two requests, if the broker does not mark one as a redelivery."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(None)
        producer.ask(None)
        ids = {fields(reply)["request-id"] for reply in await producer.get(2)}
        assert len(ids) == 2
        assert len(world.dispatch.calls) == 2


async def test_a_redelivery_without_id_is_not_paid_twice(worlds: Worlds) -> None:
    """It is known by its content."""
    async with worlds() as world:
        producer = await world.producer()
        asked = Publish("router/requests/chat", HELLO, response_topic="replies/1", correlation_data=b"c1")
        known = Received(content_id(asked), asked.topic, HELLO, "replies/1", b"c1", (), world.clock.at, None)
        await world.sqlite.receive(known)
        await world.sqlite.answered(known.key, (Published(b"kept", ()),))
        await world.sqlite.delivered(known.key, known.asker)
        world.journal.hold = "receive"
        await world.start()
        producer.ask(None)
        await world.journal.entered.wait()
        await world.kill()
        world.journal.hold = ""
        await world.start()
        assert (await producer.one()).payload == b"kept"
        assert world.sink.count("redelivered") == 1
        assert world.dispatch.calls == []


async def test_nobody_there_for_the_reply_is_counted(worlds: Worlds) -> None:
    """The answer stays in the journal for a retry under the same id."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer(topic="elsewhere")
        producer.ask()
        await world.sink.saw("client_gone")
        assert await world.sqlite.purge(before_at=world.clock.at - 1.0) == 0
        producer = await world.producer("back")
        producer.ask()
        assert fields(await producer.one())["router-decision-id"] == "d-1"
        assert len(world.dispatch.calls) == 1


async def test_old_answers_are_forgotten(worlds: Worlds) -> None:
    """Past the retention an id is new again."""
    async with worlds(retention_s=0.3) as world:
        await world.start()
        producer = await world.producer()
        producer.ask()
        await producer.one()
        world.clock.pass_by(10.0)
        async with asyncio.timeout(WAIT_S):
            while world.clock.at and len(world.dispatch.calls) < 2:
                producer.ask()
                await producer.one()
        assert len(world.dispatch.calls) == 2
