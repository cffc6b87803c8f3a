"""An OpenAI-compatible upstream on loopback that does as its `Script` says; no model runs.

A bare protocol on httptools: an answer without delays or faults is one write from inside the parser's callback,
so the double is cheap enough to stand behind a benchmark. For tests and development.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools
import msgspec
from msgspec.structs import replace

from router.doubles.kept_port import keep_port
from router.doubles.openai_answers import (
    Call,
    How,
    Refusal,
    Script,
    chunk_bodies,
    refusal_body,
    whole_body,
)

_ROLE_CHUNKS = 1
"""Chunks of a stream before its first piece."""
_LAST_CHUNK = b"0\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_GARBAGE = b'{"choices": [{"index": 0, "delta": {"content": '


class OpenAIServer:
    """One double: `url` to point a backend at, `script` to order it about."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script if script is not None else Script()
        self.url = ""
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._let_go_of_port: Callable[[], object] = lambda: None

    async def start(self, port: int = 0) -> None:
        """Listen on loopback; `url` is set from here on."""
        loop = asyncio.get_running_loop()
        self._let_go_of_port()
        self._server = await loop.create_server(
            lambda: _Connection(self.script, self._open), "127.0.0.1", port, backlog=1024
        )
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        """Stop listening and drop every connection. The port is kept for another start."""
        server, self._server = self._server, None
        if server is not None:
            port: int = server.sockets[0].getsockname()[1]
            server.close()
            self._let_go_of_port = keep_port(self, "127.0.0.1", port)
        for connection in tuple(self._open):
            await connection.drop()


@asynccontextmanager
async def openai_server(script: Script | None = None) -> AsyncIterator[OpenAIServer]:
    """A double for the length of a block."""
    server = OpenAIServer(script)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class _Connection(asyncio.Protocol):
    """One client; one call at a time."""

    def __init__(self, script: Script, siblings: set[_Connection]) -> None:
        self._script = script
        self._siblings = siblings
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._held = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport
        self._url = b""
        self._body = b""
        self._headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._siblings.add(self)
        self._script.connections += 1
        self._script.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._siblings.discard(self)
        self._script.connections -= 1
        self._writable.set()
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = self._body = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url.endswith(b"/metrics") and self._script.tells_load:
            self._script.asked += 1
            self._task = asyncio.get_running_loop().create_task(self._tell_load())
            return
        refusal = self._refusal()
        if refusal is not None:
            self._write_body(refusal.status, refusal_body(refusal), refusal.headers)
            return
        self._script.served += 1
        stream, events_or_body = self._answer()
        if self._script.is_instant:
            self._write_instantly(stream, events_or_body)
        else:
            self._task = asyncio.get_running_loop().create_task(self._act(stream, events_or_body))

    async def drop(self) -> None:
        """Close at once and wait for the answer in hand to notice."""
        self._transport.abort()
        if self._task is not None:
            await asyncio.wait((self._task,))

    def _refusal(self) -> Refusal | None:
        if not self._url.endswith(b"/chat/completions"):
            return Refusal(404, code="not_found", type="invalid_request_error")
        try:
            self._call = Call(msgspec.json.decode(self._body, type=dict[str, Any]), self._headers)
        except msgspec.DecodeError as error:
            return Refusal(400, code="invalid_json", type="invalid_request_error", message=str(error))
        if self._script.keeps_calls:
            self._script.calls.append(self._call)
        return self._script.next_refusal()

    def _answer(self) -> tuple[bool, tuple[bytes, ...]]:
        """Whether it is a stream, and its events, or the one body."""
        asked, model = self._call.body, str(self._call.body.get("model"))
        answer = self._script.answer
        if answer.logprob is not None and asked.get("logprobs") is not True:
            answer = replace(answer, logprob=None)
        if asked.get("stream") is not True or self._script.ignores_stream:
            return False, (whole_body(answer, model),)
        options = asked.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        return True, chunk_bodies(answer, model, with_usage=with_usage)

    def _write_instantly(self, stream: bool, events: tuple[bytes, ...]) -> None:
        if stream:
            self._transport.writelines([_STREAM_HEAD, *map(_framed, events), _LAST_CHUNK])
        else:
            self._write_body(200, events[0], ())

    async def _tell_load(self) -> None:
        await asyncio.sleep(self._script.page_after_s)
        self._write_body(200, self._script.load_page, (), "text/plain; version=0.0.4; charset=utf-8")

    def _write_body(
        self, status: int, body: bytes, headers: tuple[tuple[str, str], ...], kind: str = "application/json"
    ) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {status} \r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    async def _act(self, stream: bool, events: tuple[bytes, ...]) -> None:
        """Answer with the delays and the break that the script orders."""
        self._script.serving += 1
        self._hold(self._script.answer.input_tokens or 1)
        try:
            await asyncio.sleep(self._script.first_token_s)
            if stream:
                await self._act_stream(events)
            elif self._script.breaks is None:
                self._write_body(200, events[0], ())
            else:
                await self._break_whole(self._script.breaks.how, events[0])
        except asyncio.CancelledError:
            self._script.gone.release()
        finally:
            self._script.serving -= 1
            self._hold(-self._held)

    def _hold(self, tokens: int) -> None:
        self._held += tokens
        self._script.held_tokens += tokens

    async def _act_stream(self, events: tuple[bytes, ...]) -> None:
        broken = self._script.breaks
        self._transport.write(_STREAM_HEAD)
        for event in events if broken is None else events[: broken.after + _ROLE_CHUNKS]:
            self._transport.write(_framed(event))
            self._hold(1)
            await self._writable.wait()
            await asyncio.sleep(self._script.gap_s or 0.0)
        if broken is None or broken.how is How.SILENT_END:
            self._transport.write(_LAST_CHUNK)
        elif broken.how is How.CUT:
            self._transport.close()
        elif broken.how is How.HANG:
            await asyncio.Event().wait()
        else:
            fault = _GARBAGE if broken.how is How.GARBAGE else refusal_body(Refusal(500))
            self._transport.write(_framed(fault) + _LAST_CHUNK)

    async def _break_whole(self, how: How, body: bytes) -> None:
        if how is How.HANG:
            await asyncio.Event().wait()
        elif how is How.CUT:
            head = f"HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body[: len(body) // 2])
            self._transport.close()
        elif how is How.ERROR:
            self._write_body(200, refusal_body(Refusal(500)), ())
        else:
            self._write_body(200, _GARBAGE if how is How.GARBAGE else b"", ())


def _framed(event: bytes) -> bytes:
    """One event as one HTTP chunk."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(event) + 8, event)
