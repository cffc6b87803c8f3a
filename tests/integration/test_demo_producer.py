"""The demo's producer over a real socket: what it sends, and how it counts what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import mqtt5
import msgspec
import pytest

from router.demo.producer import Producer
from router.demo.truth import DemoTruth
from router.doubles.mqtt_broker import Broker, RawClient
from router.wire.mqtt import read_feedback

Answer = Callable[[mqtt5.PublishPacket], list[tuple[bytes, dict[str, str]]]]
WHOLE = b'{"id": "chatcmpl-1", "choices": []}'
ABOUT = {"router-decision-id": "d-1", "router-model": "llama-3.1-8b"}


class Responder:
    """A router that answers every request at once, as it is told to."""

    def __init__(self, client: RawClient, answer: Answer) -> None:
        self.client, self.answer = client, answer
        self.requests: list[mqtt5.PublishPacket] = []
        self.feedback: list[mqtt5.PublishPacket] = []

    async def run(self) -> None:
        while True:
            packet = await self.client.receive()
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.take(packet)

    def take(self, packet: mqtt5.PublishPacket) -> None:
        if packet.topic == "router/feedback":
            self.feedback.append(packet)
            return
        self.requests.append(packet)
        assert packet.response_topic is not None
        for payload, fields in self.answer(packet):
            self.client.publish(
                packet.response_topic,
                payload,
                qos=1,
                correlation_data=packet.correlation_data,
                user_properties=list(fields.items()),
            )


@asynccontextmanager
async def world(answer: Answer) -> AsyncIterator[tuple[Broker, Responder]]:
    async with Broker() as broker:
        client = await RawClient.connected(broker.port, "responder")
        await client.subscribe("router/#")
        responder = Responder(client, answer)
        running = asyncio.create_task(responder.run())
        try:
            yield broker, responder
        finally:
            running.cancel()
            await asyncio.wait([running])
            await client.close()


def streamed(packet: mqtt5.PublishPacket) -> list[tuple[bytes, dict[str, str]]]:
    """As asked: in three pieces or whole."""
    if not msgspec.json.decode(packet.payload)["stream"]:
        return [(WHOLE, ABOUT)]
    pieces = [b'{"choices": []}', b'{"choices": []}', b"[DONE]"]
    return [
        (piece, {"seq": str(n), "final": "true" if n == 2 else "false", **(ABOUT if n == 2 else {})})
        for n, piece in enumerate(pieces)
    ]


async def test_it_asks_as_the_standard_says_and_counts_every_answer() -> None:
    """Response topic, correlation data, expiry and properties; streams counted once; feedback for what was judged."""
    async with world(streamed) as (broker, responder):
        producer = Producer(broker.url, DemoTruth(), per_s=60.0, feedback_ratio=1.0)
        await producer.run(for_s=1.0)
        tally = producer.tally
        async with asyncio.timeout(60.0):
            while len(responder.feedback) < tally.feedback:
                await asyncio.sleep(0.01)
    assert tally.sent == tally.answered == len(responder.requests) > 10
    assert 0 < tally.streamed < tally.sent
    assert tally.pieces == 3 * tally.streamed
    assert producer.open == tally.timeouts == tally.errors.total() == 0
    for packet in responder.requests:
        body = msgspec.json.decode(packet.payload)
        assert packet.topic.startswith("router/requests/")
        assert packet.message_expiry_interval in (60, 90, 120)
        assert ("request-id", (packet.correlation_data or b"").decode()) in list(packet.user_properties)
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert tally.feedback == tally.sent
    assert {read_feedback(packet.payload).quality for packet in responder.feedback} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b'{"error": {"code": "queue_full", "message": "full"}}', "queue_full"), (b"not json", "unreadable")],
)
async def test_errors_are_counted_by_code_and_not_judged(payload: bytes, code: str) -> None:
    """An error body is no answer, and neither is nonsense."""
    async with world(lambda _: [(payload, ABOUT)]) as (broker, _):
        producer = Producer(broker.url, DemoTruth(), per_s=60.0, feedback_ratio=1.0)
        await producer.run(for_s=0.5)
    assert dict(producer.tally.errors) == {code: producer.tally.sent}
    assert (producer.tally.answered, producer.tally.feedback) == (0, 0)


async def test_a_second_reply_is_late_and_changes_nothing() -> None:
    """Every request is answered once, however often the reply comes."""
    async with world(lambda _: [(WHOLE, ABOUT)] * 2) as (broker, _):
        producer = Producer(broker.url, DemoTruth(), per_s=60.0, feedback_ratio=0.0)
        await producer.run(for_s=0.5)
    assert producer.tally.answered == producer.tally.sent


async def test_what_is_unanswered_is_sent_again_after_a_lost_connection() -> None:
    """The broker goes away with everything it held; the same request ids come again and are answered."""
    silent = True

    def answer(_: mqtt5.PublishPacket) -> list[tuple[bytes, dict[str, str]]]:
        return [] if silent else [(WHOLE, ABOUT)]

    async with world(answer) as (broker, before):
        producer = Producer(broker.url, DemoTruth(), per_s=60.0, feedback_ratio=0.0)
        running = asyncio.create_task(producer.run(for_s=0.5))
        while producer.tally.sent == 0 or len(before.requests) < producer.tally.sent:
            await asyncio.sleep(0.01)
        silent = False
        await broker.stop()
        await broker.start()
        after = Responder(await RawClient.connected(broker.port, "responder"), answer)
        await after.client.subscribe("router/#")
        answering = asyncio.create_task(after.run())
        await running
        answering.cancel()
        await asyncio.wait([answering])
        await after.client.close()
    asked = [dict(packet.user_properties)["request-id"] for packet in (*before.requests, *after.requests)]
    assert producer.tally.answered == producer.tally.sent == len(set(asked))
    assert producer.tally.resent > 0
    assert producer.tally.reconnects > 0
