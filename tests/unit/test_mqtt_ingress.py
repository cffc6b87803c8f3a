"""The queue's door over real sockets: a request is journalled, acknowledged, called and answered, in that order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.doubles.mqtt_broker import Limits
from tests.unit.mqtt_world import HELLO, STREAM, Worlds, code, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_a_request_is_answered_on_its_response_topic(worlds: Worlds) -> None:
    """Body, correlation data, content type and what it cost come back, and the journal is done with it."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(properties=[("tenant", "acme"), ("class", "chat"), ("priority", "2"), ("site", "x")])
        reply = await producer.one()
        assert (reply.topic, reply.correlation_data, reply.content_type) == ("replies/1", b"c1", "application/json")
        body = json.loads(reply.payload)
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == "hi"
        assert fields(reply)["router-decision-id"] == "d-1"
        assert fields(reply)["request-id"] == "r1"
        (request,) = world.dispatch.calls
        assert (request.tenant, request.request_class, request.priority) == ("acme", "chat", 2)
        assert (request.topic, request.attributes) == ("router/requests/chat", (("site", "x"),))
        await world.sink.saw("replied")
        assert await world.sqlite.unfinished() == ()


async def test_nothing_is_acknowledged_before_it_is_on_the_disk(worlds: Worlds) -> None:
    """The PUBACK of a request waits for the journal."""
    async with worlds() as world:
        world.journal.hold = "receive"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        await (await world.producer("other")).so_far()
        assert world.broker.stats.acknowledged == 0
        world.journal.gate.set()
        await producer.one()
        assert world.broker.stats.acknowledged >= 1


async def test_a_call_is_counted_on_the_disk_before_it_is_made(worlds: Worlds) -> None:
    """No model is called while the journal does not know of it."""
    async with worlds() as world:
        world.journal.hold = "call_started"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        await producer.so_far()
        assert world.dispatch.calls == []
        world.journal.gate.set()
        await producer.one()


@pytest.mark.parametrize("body", [HELLO, STREAM])
async def test_no_final_answer_leaves_before_it_is_on_the_disk(worlds: Worlds, body: bytes) -> None:
    """Pieces of a stream may; what a client can take for the whole answer may not."""
    async with worlds() as world:
        world.journal.hold = "answered"
        await world.start()
        producer = await world.producer()
        producer.ask(body=body)
        await world.journal.entered.wait()
        early = await producer.get(0 if body is HELLO else 2)
        assert {fields(packet)["final"] for packet in early} <= {"false"}
        assert await producer.so_far() == []
        world.journal.gate.set()
        assert fields(await producer.one()).get("final", "true") == "true"


async def test_a_bug_in_the_router_is_an_error_reply(worlds: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """The sender gets internal_error, the log the traceback, and the next request its answer."""
    async with worlds() as world:
        world.dispatch.errors.append(ZeroDivisionError())
        await world.start()
        producer = await world.producer()
        producer.ask()
        assert code(await producer.one()) == "internal_error"
        producer.ask("r2")
        await producer.one()
        assert "ZeroDivisionError" in caplog.text


async def test_the_expiry_interval_is_the_deadline(worlds: Worlds) -> None:
    """Counted from arrival on the monotonic clock."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(message_expiry_interval=30)
        await producer.one()
        assert world.dispatch.calls[0].deadline == world.clock.now + 30.0


async def test_an_answer_over_the_brokers_packet_size_becomes_an_error(worlds: Worlds) -> None:
    """The sender is told, instead of the broker ending the connection for everybody."""
    async with worlds(limits=Limits(max_packet_size_bytes=600)) as world:
        await world.start()
        producer = await world.producer()
        producer.ask("x" * 200)
        assert code(await producer.one()) == "reply_too_large"


async def test_feedback_reaches_the_dispatcher(worlds: Worlds) -> None:
    """Known ids teach; unknown and malformed ones are counted, and all are acknowledged."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        for payload in (
            b'{"decision_id":"d-1","quality":0.5}',
            b'{"decision_id":"d-9","quality":1}',
            b'{"decision_id":"d-1","quality":7}',
            b"rubbish",
        ):
            producer.client.publish("router/feedback", payload, qos=1)
        await world.sink.saw("invalid", 2)
        assert world.dispatch.feedbacks == [("d-1", 0.5), ("d-9", 1.0)]
        assert world.sink.count("feedback_unknown") == 1
        producer.ask()
        await producer.one()
        assert world.broker.stats.redelivered == 0
