"""Finished parts of journalled requests on SQLite, until the whole is answered.

One thread does all of it, on a file that is made at the first part. The file survives a killed process; after a power
cut the last parts may be missing, and are asked for again.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from router.ports.parts import KeptPart

KEEP_S = 86_400.0
"""For how long a part waits for the next life of its process: as long as a broker keeps messages for one by default."""
LINGER_S = 60.0
"""For how long it stays once the whole is answered: the answer may not be in the journal yet."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
  whole TEXT NOT NULL, part BLOB NOT NULL, due REAL NOT NULL, answer BLOB NOT NULL, PRIMARY KEY (whole, part)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parts_by_due ON parts (due);
"""
T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeptPart).decode
_log = structlog.get_logger("router.storage.parts")


class SqliteParts:
    """`router.ports.parts.KeptParts`. `at` gives wall seconds."""

    def __init__(self, path: Path, *, at: Callable[[], float] = time.time) -> None:
        self._path, self._at = path, at
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def keep(self, whole: str, part: bytes, answer: KeptPart) -> None:
        """See the port. What nobody asks for any more goes on the way."""
        now = self._at()

        def write(run: sqlite3.Connection) -> None:
            run.execute("DELETE FROM parts WHERE due < ?", (now,))
            row = (whole, part, now + KEEP_S, _encode(answer))
            run.execute("INSERT OR REPLACE INTO parts (whole, part, due, answer) VALUES (?, ?, ?, ?)", row)

        await self._do(write, None)

    async def recall(self, whole: str) -> Mapping[bytes, KeptPart]:
        """See the port."""

        def read(run: sqlite3.Connection) -> dict[bytes, KeptPart]:
            rows = run.execute("SELECT part, answer FROM parts WHERE whole = ?", (whole,)).fetchall()
            return {part: _decode(answer) for part, answer in rows}

        return await self._do(read, {})

    async def release(self, whole: str) -> None:
        """See the port."""
        due = self._at() + LINGER_S
        await self._do(lambda run: run.execute("UPDATE parts SET due = ? WHERE whole = ?", (due, whole)), None)

    async def close(self) -> None:
        """Close the file, if it was opened."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._shut)
            thread.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], T | object], otherwise: T) -> T:
        """Do it on the thread; `otherwise` where the file cannot be used."""

        def act() -> T:
            try:
                connection = self._opened()
                with connection:
                    return work(connection)  # type: ignore[return-value]  # what a write returns is not looked at
            except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
                _log.warning("parts_not_kept", path=str(self._path), error=repr(error))
                return otherwise

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="kept-parts")
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
