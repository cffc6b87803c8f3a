"""The durable journal on SQLite: one writer thread; all that waits when it looks goes into one commit.

Waiting deliberately for a fuller group gains nothing: under load the writes that arrive while one commit
syncs are the next group (a window of 0). With `synchronous=FULL` a commit is on the disk when its callers
go on.

One process owns the file: a second one is refused when it opens, for it would answer the same requests again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from router.domain.errors import JournalError
from router.ports.journal import Asker, Entry, Published, Received
from router.storage.journal_rows import Rows, open_rows

GROUP_MAX = 512
"""Most writes in one commit: bounds how long the first of them waits for the others."""
PURGE_STEP = 256
"""Rows looked at between two ordinary writes, so that a purge never holds up a request."""

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class _Write:
    """One operation on its way through the writer thread."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work, self.future = work, future
        self.result: Any = None
        self.error: Exception | None = None


class SqliteJournal:
    """`router.ports.journal.Journal` in one file beside its write-ahead log."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        max_backlog: int = 65_536,
        max_bytes: int | None = None,
    ) -> None:
        """Open or create `path`; `JournalError` if it is corrupt, unwritable or in use by another process.

        A journal of `max_bytes` is full: it takes no more until a purge has made room, as on a full disk.
        """
        self._rows: Rows = open_rows(path, synchronous, max_bytes)
        self._path, self._max_backlog = path, max_backlog
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._backlog = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._thread = Thread(target=self._write_until_closed, name="journal", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Writes waiting for the disk."""
        return self._backlog

    async def receive(self, message: Received, *, attach: bool = True) -> Entry | None:
        """Write a message; `None` if new, else what is known under its key (see the port)."""
        bare = _encode(replace(message, payload=b""))
        digest = blake2b(message.payload, digest_size=16).digest()
        return await self._submit(lambda: self._rows.receive(message, bare, digest, attach))

    async def call_started(self, key: str) -> None:
        """Count a call before it is made."""
        await self._submit(lambda: self._rows.call_started(key))

    async def answered(self, key: str, replies: tuple[Published, ...], *, keep: bool = True) -> None:
        """Write the reply; the prompt is forgotten."""
        body = _encode(replies)
        await self._submit(lambda: self._rows.answered(key, body, keep))

    async def delivered(self, key: str, asker: Asker) -> None:
        """This asker has the reply."""
        await self._submit(lambda: self._rows.delivered(key, asker))

    async def unfinished(self) -> tuple[Entry, ...]:
        """Entries that somebody still waits for, in order of receipt."""
        return await self._submit(self._rows.unfinished)

    async def purge(self, *, before_at: float) -> int:
        """Forget delivered entries received before `before_at`; how many. Other writes go between steps."""
        forgotten, after = 0, 0
        while True:
            count, last = await self._submit(partial(self._rows.purge, before_at, after, PURGE_STEP))
            forgotten += count
            if last is None:
                return forgotten
            after = last

    async def close(self) -> None:
        """Write what waits, then close the file."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    async def _submit(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise JournalError(f"journal {self._path}: closed")
        if self._backlog >= self._max_backlog:
            raise JournalError(f"journal {self._path}: {self._backlog} writes wait", code="journal_full")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = self._loop.create_future()
        self._backlog += 1
        self._queue.put(_Write(work, future))
        return await future

    def _write_until_closed(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            closing = False
            try:
                while len(group) < GROUP_MAX and not closing:
                    write = self._queue.get_nowait()
                    if write is None:
                        closing = True
                    else:
                        group.append(write)
            except Empty:
                pass
            self._commit(group)
            self._hand_back(group)
            if closing:
                break
        self._rows.close()

    def _commit(self, group: list[_Write]) -> None:
        """One transaction; if it fails each write gets its own, so that a bad one takes no other along."""
        try:
            self._rows.begin()
            for write in group:
                write.result = write.work()
            self._rows.commit()
        except Exception as error:  # whatever it is, the thread that everybody waits for must go on
            self._rows.rollback()
            if len(group) == 1:
                group[0].error = JournalError(f"journal {self._path}: {error}")
                return
            for write in group:
                self._commit([write])

    def _hand_back(self, group: list[_Write]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve, group)

    def _resolve(self, group: list[_Write]) -> None:
        self._backlog -= len(group)
        for write in group:
            if write.future.done():
                continue
            if write.error is not None:
                write.future.set_exception(write.error)
            else:
                write.future.set_result(write.result)
