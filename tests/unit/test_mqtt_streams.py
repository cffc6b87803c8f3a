"""Answers in pieces over the queue: numbered, ended, and whole over lost connections and crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from router.domain.errors import Throttled
from tests.unit.mqtt_world import STREAM, Worlds, code, content, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_a_stream_is_sequenced_publishes(worlds: Worlds) -> None:
    """The chunks that SSE would carry, numbered, the last one final; a duplicate gets the same publishes."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM.replace(b"true", b'true,"stream_options":{"include_usage":true}'))
        pieces = await producer.get(4)
        assert [fields(piece)["seq"] for piece in pieces] == ["0", "1", "2", "3"]
        assert [fields(piece)["final"] for piece in pieces] == ["false", "false", "false", "true"]
        assert pieces[-1].payload == b"[DONE]"
        chunks = [json.loads(piece.payload) for piece in pieces[:-1]]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert "".join(c["delta"]["content"] for chunk in chunks for c in chunk["choices"]) == "hi"
        assert chunks[-1]["usage"]["completion_tokens"] == 2
        assert fields(pieces[0])["router-model"] == fields(pieces[-1])["router-model"] == "llama"
        producer.ask(body=STREAM.replace(b"true", b'true,"stream_options":{"include_usage":true}'))
        assert [content(piece) for piece in await producer.get(4)] == [content(piece) for piece in pieces]
        assert len(world.dispatch.calls) == 1


async def test_pieces_of_a_stream_do_not_wait_for_its_end(worlds: Worlds) -> None:
    """The first is with the client while the model still speaks; who joins then gets all of them at the end."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        assert fields(await producer.one())["seq"] == "0"
        producer.ask(body=STREAM, correlation_data=b"c2")
        await world.sink.saw("duplicate")
        world.dispatch.gate.set()
        rest = await producer.get(5)
        by_asker = Counter(packet.correlation_data for packet in rest)
        assert by_asker == {b"c1": 2, b"c2": 3}


async def test_a_stream_that_fails_ends_with_the_error(worlds: Worlds) -> None:
    """The error body is the final piece; without [DONE] it cannot pass for an answer."""
    async with worlds() as world:
        world.dispatch.errors.append(Throttled("slow down"))
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        first, last = await producer.get(2)
        assert fields(first)["final"] == "false"
        assert (code(last), fields(last)["final"], fields(last)["seq"]) == ("throttled", "true", "1")


async def test_a_stream_goes_on_over_a_lost_connection(worlds: Worlds) -> None:
    """Pieces that the broker did not acknowledge are published again; none is missing."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        await producer.one()
        world.broker.faults.cut_after_packets["router-replies"] = 1
        world.dispatch.gate.set()
        seen = [fields(await producer.one())]
        while seen[-1]["final"] == "false":
            seen.append(fields(await producer.one()))
        assert [each["seq"] for each in seen if each["seq"] != "0"][-2:] == ["1", "2"]
        assert world.sink.count("disconnected", "mqtt_replies") == 1


async def test_a_stream_that_a_crash_cut_starts_again_and_says_so(worlds: Worlds) -> None:
    """From seq 0, each piece marked; the id is answered with the same publishes from then on."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        assert "router-restarted" not in fields(await producer.one())
        await world.kill()
        world.dispatch.gate.set()
        await world.start()
        pieces = await producer.get(3)
        assert [fields(piece)["seq"] for piece in pieces] == ["0", "1", "2"]
        assert {fields(piece)["router-restarted"] for piece in pieces} == {"true"}
        assert world.sink.count("cut_call") == 1
        producer.ask(body=STREAM)
        assert [content(piece) for piece in await producer.get(3)] == [content(piece) for piece in pieces]
