"""What is no request, or has no way back: told, put aside, and in nobody's way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.mqtt_world import HELLO, Worlds, code, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "invalid_json"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"messages":"hello"}', "invalid_request"),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":-1}', "invalid_request"),
        (b'{"messages":[{"role":"user","content":"' + b"x" * 5000 + b'"}]}', "body_too_large"),
    ],
)
async def test_what_is_no_request_is_told_and_put_aside(worlds: Worlds, body: bytes, expected: str) -> None:
    """The sender gets the error, the dead-letter topic the message with the reason, the broker its PUBACK."""
    async with worlds(max_body_bytes=4096) as world:
        await world.start()
        producer = await world.producer()
        producer.ask(body=body)
        replies = {packet.topic: packet for packet in await producer.get(2)}
        assert code(replies["replies/1"]) == expected
        dead = replies["router/dead-letter"]
        assert fields(dead)["code"] == expected
        assert (fields(dead)["original-topic"], fields(dead)["request-id"]) == ("router/requests/chat", "r1")
        assert len(fields(dead)["reason"]) > 5
        assert (dead.payload == body) is (len(body) < 4096)
        assert world.dispatch.calls == []
        producer.ask("good")
        await producer.one()
        assert world.sink.count("invalid") == 1


@pytest.mark.parametrize("topic", [None, "replies/\x07"])
async def test_without_a_way_back_a_message_is_put_aside(worlds: Worlds, topic: str | None) -> None:
    """No response topic, or one that cannot be published to: dead letter, and it does not come again."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(response_topic=topic)
        dead = await producer.one()
        assert (dead.topic, fields(dead)["code"]) == ("router/dead-letter", "no_response_topic")
        assert (dead.payload, dead.correlation_data) == (HELLO, b"c1")
        await world.idle()
        await world.kill()
        await world.start()
        assert world.sink.count("redelivered") == 0


async def test_a_flood_of_rubbish_does_not_disturb_a_request(worlds: Worlds) -> None:
    """Every piece of it is put aside, and the request in the middle is answered."""
    async with worlds(receive_maximum=50) as world:
        await world.start()
        producer = await world.producer()
        for number in range(300):
            producer.ask(body=b"rubbish", response_topic=None)
            if number == 150:
                producer.ask()
        counts = Counter(packet.topic for packet in await producer.get(301))
        assert counts == {"router/dead-letter": 300, "replies/1": 1}
