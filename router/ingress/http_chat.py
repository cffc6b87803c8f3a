"""The hot route, POST /v1/chat/completions, as raw ASGI; and /v1/fanout, which is another spelling of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import isfinite
from secrets import token_hex

import structlog
from msgspec import Struct

from router.domain.errors import Rejected, RequestError, RouterError
from router.domain.events import IngressEvent
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Request
from router.ingress.http_answers import (
    HangUpError,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    check_key,
    read_limited,
    receipt_headers,
    send_error,
)
from router.ingress.http_server import CONNECTION
from router.ports.dispatch import Dispatch, EventSink
from router.wire import sse
from router.wire.openai import Envelope, completion_body, read_request
from router.wire.openai.fanout.asked import from_short
from router.wire.openai.stream import ChunkWriter

FANOUT_PATH = "/v1/fanout"
_log = structlog.get_logger("router.ingress.http")
_ID_CHARS = 128
"""Longest `x-request-id` that is taken over."""


class ChatOptions(Struct, frozen=True):
    """Bounds and keys of the route. `api_keys=None` admits everyone."""

    body_limit_bytes: int
    api_keys: frozenset[str] | None


class _Call:
    """One request being served. Whoever ends it early says why, then cancels its task."""

    __slots__ = ("_task", "gone", "stopped")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.gone = False
        self.stopped = False

    def hang_up(self) -> None:
        self.gone = True
        self._cancel()

    def stop(self) -> None:
        self.stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _StreamAnswer:
    """The `Responder` of one streaming request: server-sent events through ASGI `send`, whose await is the
    back-pressure. Nothing is sent before `begin`."""

    __slots__ = ("_debug", "_extra", "_request", "_send", "_writer")

    def __init__(self, request: Request, send: Send, extra: Headers, *, debug: bool) -> None:
        self._request = request
        self._send = send
        self._extra = extra
        self._debug = debug
        self._writer: ChunkWriter | None = None

    async def begin(self, receipt: Receipt) -> None:
        """Send status and headers."""
        await self._open(receipt, is_opening=True)

    async def _open(self, receipt: Receipt, *, is_opening: bool) -> None:
        self._writer = ChunkWriter(self._request, receipt, int(self._request.at))
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *receipt_headers(receipt, debug=self._debug, is_opening=is_opening),
            *self._extra,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def delta(self, delta: Delta) -> None:
        """Send one piece."""
        if self._writer is not None:
            pieces = self._writer.pieces(delta)
            if pieces:
                await self._send(_events(pieces, more=True))

    async def finish(self, reply: Reply) -> None:
        """Send what comes after the last piece; all of it, where the dispatcher had the answer already."""
        if self._writer is None:
            await self._open(reply.receipt, is_opening=False)
            await self.delta(Delta(choices=reply.choices, whole=reply.choices != b"[]"))
        if self._writer is not None:
            await self._send(_events(self._writer.end(reply), more=False))

    async def fail(self, error: RouterError) -> None:
        """End with the error, as an ordinary response where that is still possible, else in the stream."""
        if self._writer is None:
            await send_error(self._send, error, self._extra)
        else:
            await self._send(_events(self._writer.error(error), more=False))


def _events(pieces: list[bytes], *, more: bool) -> Message:
    body = b"".join([sse.encode(piece) for piece in pieces])
    return {"type": "http.response.body", "body": body, "more_body": more}


class ChatRoute:
    """An ASGI application for one path and method.

    It awaits the dispatcher in uvicorn's own task; a client that vanishes cancels that task through its
    connection, so no task is made here. `now` is monotonic seconds, `at` wall seconds.
    """

    def __init__(
        self,
        options: ChatOptions,
        dispatch: Dispatch,
        sink: EventSink,
        *,
        now: Callable[[], float],
        at: Callable[[], float],
    ) -> None:
        self._options = options
        self._dispatch = dispatch
        self._sink = sink
        self._now = now
        self._at = at
        self._calls: set[_Call] = set()
        self._draining = False

    def drain(self) -> None:
        """Refuse what comes from here on."""
        self._draining = True

    def cut(self) -> None:
        """End every call still running with an error that says so."""
        for call in tuple(self._calls):
            call.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = _Call()
        connection = scope.get(CONNECTION)
        if connection is not None:
            connection.on_lost = call.hang_up
        self._calls.add(call)
        try:
            await self._serve(call, scope, receive, send)
        except HangUpError:
            self._emit("client_gone", "request")
        finally:
            self._calls.discard(call)
            if connection is not None:
                connection.on_lost = None

    async def _serve(self, call: _Call, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        extra = [(b"x-request-id", request_id.encode())]
        debug = headers.get(b"x-router-debug", b"").lower() == b"true"
        answer: _StreamAnswer | None = None
        try:
            request = await self._read(scope["path"], headers, receive, request_id)
            if request.stream:
                answer = _StreamAnswer(request, send, extra, debug=debug)
                await answer.finish(await self._dispatch.submit(request, answer))
            else:
                reply = await self._dispatch.submit(request)
                answered = self._now()
                await _send_reply(send, reply, receipt_headers(reply.receipt, debug=debug) + extra)
                self._sink.emit(IngressEvent("http", "replied", at=self._at(), seconds=self._now() - answered))
        except (Exception, asyncio.CancelledError) as raised:
            error = self._explain(call, raised)
            if answer is not None:
                await answer.fail(error)
            else:
                await send_error(send, error, extra)

    async def _read(self, path: str, headers: Mapping[bytes, bytes], receive: Receive, request_id: str) -> Request:
        try:
            if self._draining:
                raise Rejected("The router is shutting down.", code="draining")
            check_key(headers, self._options.api_keys)
            if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
                raise RequestError("The body must be JSON.", code="unsupported_media_type")
            body = await read_limited(headers, receive, self._options.body_limit_bytes)
            if path == FANOUT_PATH:
                body = from_short(body, required=True)
            return read_request(body, self._envelope(headers, request_id))
        except RouterError as error:
            self._emit("invalid", error.code)
            raise

    def _envelope(self, headers: Mapping[bytes, bytes], request_id: str) -> Envelope:
        now = self._now()
        deadline_ms = _number(headers, b"x-router-deadline-ms")
        priority = _number(headers, b"x-router-priority")
        return Envelope(
            id=request_id,
            arrived=now,
            at=self._at(),
            source="http",
            tenant=_text(headers, b"x-router-tenant") or "default",
            request_class=_text(headers, b"x-router-class"),
            priority=None if priority is None else int(priority),
            deadline=None if deadline_ms is None else now + deadline_ms / 1e3,
            traceparent=_text(headers, b"traceparent"),
        )

    def _explain(self, call: _Call, raised: BaseException) -> RouterError:
        """The error to answer with; `HangUpError` where nobody is left to read it."""
        if call.gone or isinstance(raised, HangUpError):
            raise HangUpError from None
        if isinstance(raised, RouterError):
            return raised
        if call.stopped:
            return Rejected("The router is shutting down.", code="draining")
        if isinstance(raised, asyncio.CancelledError):
            raise raised
        _log.error("http_request_failed", exc_info=raised)
        return RouterError("The router failed while it served this request.")

    def _emit(self, what: str, detail: str) -> None:
        self._sink.emit(IngressEvent(source="http", what=what, detail=detail, at=self._at()))


async def _send_reply(send: Send, reply: Reply, extra: Headers) -> None:
    body = completion_body(reply)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The sender's own id where it is fit for logs and headers, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    if 0 < len(given) <= _ID_CHARS and given.isascii() and given.isprintable():
        return given
    return f"req-{token_hex(12)}"


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return value.decode("latin-1") if value else None


def _number(headers: Mapping[bytes, bytes], name: bytes) -> float | None:
    value = headers.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise RequestError(f"The header {name.decode()} must be a number.", param=name.decode())
    return number
