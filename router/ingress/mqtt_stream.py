"""A streamed answer as sequenced publishes: live to who asked first, and kept to be journalled.

What ends the stream is not published from here: the client may take `final` for an answer, so the whole must
be in the journal before.
"""

from __future__ import annotations

import asyncio
from collections import deque

from router.domain.errors import RouterError
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Request
from router.ingress.mqtt_replies import FAILURE, Replies
from router.ports.journal import Asker, Published
from router.wire.mqtt import Properties, error_properties, piece_properties, reply_properties
from router.wire.openai import error_body
from router.wire.openai.stream import DONE, ChunkWriter

WINDOW = 64
"""Pieces on the way to the broker and not yet acknowledged, before the model's next one has to wait."""


class StreamReply:
    """`router.ports.dispatch.Responder` for one request. `sent` pieces of `pieces` are with the broker."""

    def __init__(self, request: Request, asker: Asker, replies: Replies, *, created: int, is_restarted: bool) -> None:
        self._request, self._asker, self._replies, self._created = request, asker, replies, created
        self._is_restarted, self._is_refused = is_restarted, False
        self._writer: ChunkWriter | None = None
        self._receipt: Receipt | None = None
        self._posted: deque[asyncio.Future[int | None]] = deque()
        self.pieces: list[Published] = []
        self.sent = 0

    async def begin(self, receipt: Receipt) -> None:
        """The first piece is about to come."""
        self._receipt = receipt
        self._writer = ChunkWriter(self._request, receipt, self._created)

    async def delta(self, delta: Delta) -> None:
        """Publish one piece; waits while too many are unacknowledged."""
        if self._writer is None or self._receipt is None:
            raise RuntimeError("begin comes before the first piece")
        for data in self._writer.pieces(delta):
            about = () if self.pieces else reply_properties(self._request.id, self._receipt, is_opening=True)
            self._add(data, about, is_final=False)
        await self._send()

    def end(self, reply: Reply) -> tuple[Published, ...]:
        """All pieces of the finished answer; the last says what it cost in the end."""
        if self._writer is None:
            self._writer = ChunkWriter(self._request, reply.receipt, self._created)
        *middle, last = self._writer.end(reply)
        for data in middle:
            self._add(data, (), is_final=False)
        self._add(last, reply_properties(self._request.id, reply.receipt), is_final=True)
        return tuple(self.pieces)

    def fail(self, error: RouterError) -> tuple[Published, ...]:
        """All pieces of an answer that broke off, the error last."""
        self._add(error_body(error), error_properties(self._request.id, error), is_final=True)
        return tuple(self.pieces)

    async def settle(self) -> None:
        """Wait for what is on its way, so that `sent` is what the broker has."""
        while self._posted:
            await self._reap()

    def _add(self, data: bytes, about: Properties, *, is_final: bool) -> None:
        place = piece_properties(len(self.pieces), is_final=is_final, is_restarted=self._is_restarted)
        kind = "text/plain" if data == DONE else "application/json"
        self.pieces.append(Published(data, place + about, kind))

    async def _send(self) -> None:
        """Post what is not posted yet; after a lost connection that is everything unacknowledged."""
        while self._posted and (self._posted[0].done() or len(self._posted) >= WINDOW):
            await self._reap()
        while not self._is_refused and self.sent + len(self._posted) < len(self.pieces):
            future = self._replies.post(self._asker, self.pieces[self.sent + len(self._posted)])
            if future is None:
                return
            self._posted.append(future)

    async def _reap(self) -> None:
        first = self._posted[0]
        if not first.done():
            await asyncio.wait((first,))  # a request that is cancelled here leaves it to `settle`
        code = self._posted.popleft().result()
        self._is_refused |= code is not None and code >= FAILURE
        if code is None or self._is_refused:
            self._posted.clear()
        else:
            self.sent += 1
