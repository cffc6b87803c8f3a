"""The life of a request id: journalled, acknowledged, answered, journalled again, published, delivered.

What holds at every await, wherever the process is killed:

* before `receive` is on the disk the message is not acknowledged: the broker sends it again;
* after it, the journal answers for the message, and says whether a model call had been started;
* nothing that a client may take for an answer is published before `answered` is on the disk, so an id that was
  answered is answered again from the journal and no model is called for it;
* a cancel is an answer like any other: a model call is ended first, then it is on the disk, then it is published;
* an asker is struck off only when the broker has acknowledged the publish: until then it is published again.

What sticks under an id: an answer, and an error that a retry would not change. After a refusal that may pass
(shed, throttled, unreachable, or expired before any call) the id is free again once the error is delivered.
A duplicate that comes in the meantime waits for that, and is then a fresh try.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast
from uuid import uuid4

from msgspec.structs import replace

from router.domain.errors import Cancelled, Expired, JournalError, RequestError, RouterError
from router.domain.events import IngressEvent
from router.domain.outcome import Reply
from router.domain.request import Request
from router.ingress.cancels.early import EARLY, UNKNOWN, EarlyCancels
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_reader import SOURCE, RequestReader
from router.ingress.mqtt_replies import Emit, Refused, Replies, TooLarge
from router.ingress.mqtt_stream import WINDOW, StreamReply
from router.ports.dispatch import Dispatch
from router.ports.journal import Asker, Entry, Journal, Published, Received
from router.wire.mqtt import error_properties, reply_properties, topic_problem
from router.wire.mqtt_packet import Publish
from router.wire.openai import completion_body, error_body

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Exchange:
    """One request id while this process works on it."""

    __slots__ = (
        "askers",
        "calls",
        "calls_before",
        "ended",
        "is_taken_back",
        "is_transient",
        "received",
        "replies",
        "request",
        "sent",
        "serving",
    )

    def __init__(self, received: Received, request: Request | None, askers: tuple[Asker, ...]) -> None:
        self.received, self.request, self.askers = received, request, list(askers)
        self.calls = self.calls_before = self.sent = 0
        self.replies: tuple[Published, ...] | None = None
        self.is_transient = self.is_taken_back = False
        self.serving: asyncio.Task[Any] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def adopt(self, entry: Entry) -> None:
        """Take over what the journal knows."""
        self.calls = self.calls_before = entry.calls
        self.replies, self.is_transient = entry.replies, not entry.keep

    def join(self, asker: Asker) -> None:
        """One more who waits for the same answer."""
        if asker not in self.askers:
            self.askers.append(asker)

    def take_back(self) -> bool:
        """End the serving of it; false where it is not being served."""
        if self.serving is None:
            return False
        if not self.is_taken_back:
            self.is_taken_back = True
            self.serving.cancel()
        return True


def sticks(error: RouterError, calls: int) -> bool:
    """Whether an error is the answer under its id for good; if not, a retry under the id is a fresh try."""
    if isinstance(error, Expired):
        return calls > 0
    return not error.retryable and error.code != RouterError.code


class Exchanges:
    """All requests that are open. One task of the caller runs each `take` or `resume`."""

    def __init__(
        self,
        options: MqttOptions,
        dispatch: Dispatch,
        journal: Journal,
        replies: Replies,
        emit: Emit,
        clocks: tuple[Callable[[], float], Callable[[], float]],
    ) -> None:
        """`clocks`: monotonic and wall seconds."""
        self._options, self._dispatch, self._journal, self._replies = options, dispatch, journal, replies
        self._emit = emit
        self._monotonic, self._wall = clocks
        self._reader = RequestReader(options.max_body_bytes, clocks)
        self._open: dict[str, Exchange] = {}
        self.early = EarlyCancels(clocks[0], partial(self._event, UNKNOWN, "its request did not come"))
        self.stalled = 0
        """Writes that the journal refused and that are tried again."""

    async def take(self, message: Publish, ack: Callable[[], None]) -> None:
        """A message from the broker, to the end. `ack` is called once it is safe."""
        try:
            received, request, has_id = self._reader.read(message)
        except RequestError as problem:
            self._event("invalid", problem.code)
            await self._refuse(message, problem)
            ack()
            return
        received, entry = await self._receive(received, is_duplicable=has_id or message.is_redelivered)
        if message.is_redelivered:
            self._event("redelivered")
        if entry is not None and not entry.same:
            self._event("conflict")
            conflict = RequestError("this request-id came with another body before", code="idempotency_conflict")
            await self._tell(received.asker, received.request_id, conflict)
            ack()
            return
        ack()
        if entry is not None:
            self._event("duplicate")
        is_open = self._open.get(received.key)
        if is_open is not None:
            is_open.join(received.asker)
            return
        exchange = Exchange(received, request, (received.asker,))
        if entry is not None:
            exchange.adopt(entry)
        await self._carry(exchange)

    def reopen(self, entry: Entry) -> Callable[[], Coroutine[Any, Any, None]]:
        """Open what a former life left unfinished, at once; call what is returned to carry it on."""
        if entry.calls and entry.replies is None:
            self._event("cut_call")
        exchange = Exchange(entry.received, None, entry.askers)
        exchange.adopt(entry)
        self._open[entry.received.key] = exchange
        return partial(self._carry, exchange)

    def cancel(self, key: str) -> str:
        """Take a request back. Where nothing is open under the key it says so: one that comes soon is not begun. An
        answer that was made stays."""
        exchange = self._open.get(key)
        if exchange is not None and exchange.take_back():
            return ""
        if exchange is None or exchange.replies is None:
            self.early.remember(key)
            return EARLY
        return UNKNOWN

    async def _receive(self, received: Received, *, is_duplicable: bool) -> tuple[Received, Entry | None]:
        """Journal a message. One without request id is a duplicate only if the broker says so: see `wire.mqtt`."""
        while (is_open := self._open.get(received.key)) is not None and is_open.is_transient:
            await asyncio.shield(is_open.ended)
        entry = await self._durably(lambda: self._journal.receive(received, attach=is_duplicable))
        if entry is None or is_duplicable:
            return received, entry
        fresh = replace(received, request_id=f"{received.request_id}-{uuid4().hex}")
        return fresh, await self._durably(lambda: self._journal.receive(fresh))

    async def _carry(self, exchange: Exchange) -> None:
        """From wherever an exchange is to its end."""
        self._open[exchange.received.key] = exchange
        try:
            if exchange.replies is None:
                await self._answer(exchange)
            if exchange.replies is not None:
                await self._deliver(exchange, exchange.replies)
        finally:
            self._close(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        """Have it answered and put the answer on the disk. None is set if the router is draining."""
        stream: StreamReply | None = None
        try:
            if self.early.take(exchange.received.key):
                raise Cancelled("the request was cancelled before it was begun")
            request = self._reader.again(exchange.received, exchange.request, exchange.calls_before)
            if request.deadline is not None and request.deadline <= self._monotonic():
                raise Expired("the Message Expiry Interval had passed before a model could be called")
            if request.stream:
                stream = self._stream(exchange, request)
            reply = await self._serve(exchange, request, stream)
            if stream is not None:
                replies = stream.end(reply)
            else:
                about = reply_properties(request.id, reply.receipt)
                replies = (Published(completion_body(reply), about),)
        except RouterError as error:
            if error.code == "draining":
                return
            replies = self._failed(exchange, stream, error)
        except Exception:
            _log.exception("a request failed inside the router")
            replies = self._failed(exchange, stream, RouterError("the router failed on this request"))
        key, keep = exchange.received.key, not exchange.is_transient
        await self._durably(lambda: self._journal.answered(key, replies, keep=keep))
        if stream is not None:
            await stream.settle()
            exchange.sent = stream.sent
        exchange.replies = replies

    async def _serve(self, exchange: Exchange, request: Request, stream: StreamReply | None) -> Reply:
        """Have it answered; `Cancelled` where it was taken back meanwhile, unless the router ends too."""
        task = exchange.serving = cast(asyncio.Task[Any], asyncio.current_task())
        try:
            return await self._dispatch.submit(request, stream, on_call=partial(self._call_started, exchange))
        except (asyncio.CancelledError, RouterError):
            if exchange.is_taken_back and task.cancelling() == 1:
                raise Cancelled("the request was cancelled") from None
            raise
        finally:
            exchange.serving = None
            if exchange.is_taken_back:
                task.uncancel()

    def _failed(self, exchange: Exchange, stream: StreamReply | None, error: RouterError) -> tuple[Published, ...]:
        exchange.is_transient = not sticks(error, exchange.calls)
        if isinstance(error, Cancelled):
            self._event("cancelled")
        if stream is not None:
            return stream.fail(error)
        return (_error_reply(exchange.received.request_id, error),)

    def _stream(self, exchange: Exchange, request: Request) -> StreamReply:
        return StreamReply(
            request,
            exchange.askers[0],
            self._replies,
            created=int(self._wall()),
            is_restarted=exchange.calls_before > 0,
        )

    async def _call_started(self, exchange: Exchange) -> None:
        exchange.calls += 1
        await self._durably(lambda: self._journal.call_started(exchange.received.key))

    async def _deliver(self, exchange: Exchange, replies: tuple[Published, ...]) -> None:
        """Publish to all who ask, those too who join meanwhile."""
        start = exchange.sent
        while True:
            asker, since = exchange.askers[0], self._monotonic()
            await self._send(exchange.received, asker, replies[start:])
            start = 0
            seconds = self._monotonic() - since
            self._emit(IngressEvent(source=SOURCE, what="replied", at=self._wall(), seconds=seconds))
            del exchange.askers[0]
            is_last = not exchange.askers
            if is_last:  # no await before the write is queued: a duplicate from here on comes after it
                self._close(exchange)
            await self._durably(partial(self._journal.delivered, exchange.received.key, asker))
            if is_last:
                return

    async def _send(self, received: Received, asker: Asker, replies: tuple[Published, ...]) -> None:
        try:
            if len(replies) == 1:
                await self._replies.send(asker, replies[0])
                return
            for start in range(0, len(replies), WINDOW):
                pieces = replies[start : start + WINDOW]
                await asyncio.gather(*(self._replies.send(asker, piece) for piece in pieces))
        except TooLarge as refusal:
            error = RouterError(f"the answer cannot be sent: {refusal}", code="reply_too_large")
            await self._tell(asker, received.request_id, error)
        except Refused as refusal:
            self._event("refused", str(refusal))
            error = RouterError(f"the reply to {asker.response_topic} is refused: {refusal}", code="refused")
            letter = Publish(received.topic, error_body(error), properties=received.properties)
            await self._replies.dead_letter(replace(letter, correlation_data=asker.correlation_data), error)

    async def _tell(self, asker: Asker, request_id: str | None, error: RouterError) -> None:
        """Send an error that is not journalled: the caller acknowledges only after."""
        try:
            await self._replies.send(asker, _error_reply(request_id, error))
        except Refused as refusal:
            self._event("refused", str(refusal))

    async def _refuse(self, message: Publish, error: RequestError) -> None:
        """A message that is no request: the error to the sender where there is a way, and a dead letter."""
        if topic_problem(message.response_topic) is None:
            asker = Asker(message.response_topic or "", message.correlation_data)
            await self._tell(asker, _request_id(message), error)
        if len(message.payload) > self._options.max_body_bytes:
            message = replace(message, payload=error_body(error))
        await self._replies.dead_letter(message, error)

    async def _durably(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write, again and again if the journal will not: nothing may go on without it."""
        try:
            return await write()
        except JournalError as error:
            problem = error.message
        self.stalled += 1
        try:
            while True:
                self._event("journal_failed", problem)
                await asyncio.sleep(self._options.backoff_min_s)
                try:
                    return await write()
                except JournalError as error:
                    problem = error.message
        finally:
            self.stalled -= 1

    def _close(self, exchange: Exchange) -> None:
        if self._open.get(exchange.received.key) is exchange:
            del self._open[exchange.received.key]
        if not exchange.ended.done():
            exchange.ended.set_result(None)

    def _event(self, what: str, detail: str = "") -> None:
        self._emit(IngressEvent(source=SOURCE, what=what, detail=detail, at=self._wall()))


def _request_id(message: Publish) -> str | None:
    return next((value for name, value in message.properties if name == "request-id"), None)


def _error_reply(request_id: str | None, error: RouterError) -> Published:
    return Published(error_body(error), error_properties(request_id, error))
