"""How HTTP calls end early: clients that vanish or do not read, and the stop of the router."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from router.domain.outcome import Delta, Reply
from router.domain.request import Request
from router.ports.dispatch import Responder
from router.wire.openai import delta_choices
from tests.unit.http_door import CHAT, RECEIPT, Door, open_door, reply_to


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as one:
        yield one


@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_hangs_up_cancels_its_call(door: Door, stream: bool) -> None:
    """A client that vanishes while it waits, or mid-stream, ends the call behind the door, and is counted."""
    waiting = asyncio.Event()

    async def hang(request: Request, responder: Responder | None) -> Reply:
        if responder is not None:
            await responder.begin(RECEIPT)
            await responder.delta(Delta(delta_choices("x"), tokens=1))
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    door.router.behaviour = hang
    call = asyncio.create_task(door.post({**CHAT, "stream": stream}))
    await waiting.wait()
    call.cancel()
    await asyncio.wait_for(door.router.cancelled.wait(), 60)
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert door.router.ingress_events() == [("client_gone", "request")]


async def test_connection_outlives_its_request(door: Door) -> None:
    """A connection that is closed after its answers cancels nothing."""
    for _ in range(3):
        assert (await door.post(CHAT))[0] == 200
    await door.client.close()
    await door.ingress.stop(grace_s=0)
    assert not door.router.cancelled.is_set()
    assert {what for what, _ in door.router.ingress_events()} <= {"replied"}


async def _narrow(port: int) -> socket.socket:
    """A connection that takes in little, however much the machine would let it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
    return one


async def test_slow_reader_holds_the_answer_back(door: Door) -> None:
    """A client that does not read stops the stream at the socket's buffers: the responder waits."""
    sent = 0
    total = 4000

    async def flood(request: Request, responder: Responder | None) -> Reply:
        nonlocal sent
        assert responder is not None
        await responder.begin(RECEIPT)
        for _ in range(total):
            await responder.delta(Delta(delta_choices("x" * 10_000), tokens=1))
            sent += 1
        return reply_to(request)

    door.router.behaviour = flood
    body = json.dumps({**CHAT, "stream": True}).encode()
    reader, writer = await asyncio.open_connection(sock=await _narrow(door.ingress.port), limit=1024)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await reader.readline()
    seen = -1
    while sent != seen:
        seen = sent
        for _ in range(20):
            await door.get("/healthz")
    assert 0 < sent < total
    writer.transport.abort()
    await asyncio.wait_for(door.router.cancelled.wait(), 60)


async def test_stop_waits_for_running_calls_and_refuses_new_ones(door: Door) -> None:
    """A call that is running when the stop comes is answered; nobody new gets in."""
    started, release = asyncio.Event(), asyncio.Event()

    async def slow(request: Request, responder: Responder | None) -> Reply:
        started.set()
        await release.wait()
        return reply_to(request)

    door.router.behaviour = slow
    call = asyncio.create_task(door.post(CHAT))
    await started.wait()
    stopping = asyncio.create_task(door.ingress.stop(grace_s=60))
    await asyncio.sleep(0)
    with pytest.raises(aiohttp.ClientConnectorError):
        await door.post(CHAT)
    release.set()
    assert (await call)[0] == 200
    await stopping


async def test_request_that_arrives_in_full_after_the_stop_is_refused(door: Door) -> None:
    """A request whose body was still on its way when the stop came gets an error that may be retried."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.ingress.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
    assert (await door.get("/healthz"))[0] == 200
    await door.ingress.stop(grace_s=0)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"draining"' in answer
    writer.close()
    await writer.wait_closed()


async def test_stop_ends_what_will_not_end_with_an_error(door: Door) -> None:
    """A call that outlasts the grace is answered with an error that may be retried elsewhere."""
    started = asyncio.Event()

    async def hang(request: Request, responder: Responder | None) -> Reply:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    door.router.behaviour = hang
    call = asyncio.create_task(door.post(CHAT))
    await started.wait()
    await door.ingress.stop(grace_s=0)
    status, headers, body = await call
    assert (status, headers["x-should-retry"]) == (503, "true")
    assert json.loads(body)["error"]["code"] == "draining"
    assert door.router.cancelled.is_set()
