"""Batch jobs on SQLite: a few writes a job, each on the disk when its caller goes on.

One thread does all of it. One process owns the file: a second one is refused when it opens, for it would make the same
jobs again. The file holds answers of models, and no prompts. A record that one lane gave back may be in a job of
another lane too: each job keeps its own answer to it, for both are paid.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from router.domain.errors import JournalError
from router.ports.jobs import KnownJob, Result, Taken, Unused

VERSION = 1
_SCHEMA = f"""
BEGIN EXCLUSIVE;
CREATE TABLE jobs (
  token TEXT PRIMARY KEY, deployment TEXT NOT NULL, input_uri TEXT NOT NULL, output_uri TEXT NOT NULL,
  planned_at REAL NOT NULL, arn TEXT, ended INTEGER NOT NULL DEFAULT 0);
CREATE TABLE records (
  key TEXT NOT NULL, token TEXT NOT NULL, number INTEGER NOT NULL, class TEXT NOT NULL,
  paid INTEGER NOT NULL DEFAULT 0, answer BLOB, PRIMARY KEY (key, token));
CREATE INDEX records_by_token ON records (token, number);
PRAGMA user_version = {VERSION};
COMMIT;
"""
T = TypeVar("T")


class SqliteJobStore:
    """`router.ports.jobs.JobStore` in one file beside its write-ahead log."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`; `JournalError` if it is corrupt, unwritable or in use by another process."""
        self._path = path
        self._connection = _open(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch-jobs")

    async def plan(self, job: KnownJob) -> None:
        """Write a job down before the service is asked for it."""
        row = (job.token, job.deployment, job.input_uri, job.output_uri, job.planned_at, job.arn)
        classes = job.classes or ("",) * len(job.keys)
        records = [(key, job.token, i, name) for i, (key, name) in enumerate(zip(job.keys, classes, strict=True))]

        def write(run: sqlite3.Connection) -> None:
            run.execute(
                "INSERT INTO jobs (token, deployment, input_uri, output_uri, planned_at, arn)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            run.executemany("INSERT INTO records (key, token, number, class) VALUES (?, ?, ?, ?)", records)

        await self._do(write)

    async def submitted(self, token: str, arn: str) -> None:
        """The service has it."""
        await self._do(lambda run: run.execute("UPDATE jobs SET arn = ? WHERE token = ?", (arn, token)))

    async def drop(self, token: str) -> None:
        """There is no such job, or nothing came of it: its records are free again."""

        def write(run: sqlite3.Connection) -> None:
            run.execute("DELETE FROM records WHERE token = ?", (token,))
            run.execute("DELETE FROM jobs WHERE token = ?", (token,))

        await self._do(write)

    async def results(self, token: str, results: Sequence[Result]) -> None:
        """Some of its output, read. What is known of a record already stays."""
        answers = [(r.answer, r.is_taken, r.key, token) for r in results if r.error is None]
        errors = [(r.key, token) for r in results if r.error is not None]

        def write(run: sqlite3.Connection) -> None:
            run.executemany(
                "UPDATE records SET answer = ?, paid = ? WHERE key = ? AND token = ? AND answer IS NULL", answers
            )
            run.executemany("DELETE FROM records WHERE key = ? AND token = ? AND answer IS NULL", errors)

        await self._do(write)

    async def ended(self, token: str) -> None:
        """All of its output is read; records without an answer are free again."""

        def write(run: sqlite3.Connection) -> None:
            run.execute("DELETE FROM records WHERE token = ? AND answer IS NULL", (token,))
            run.execute("UPDATE jobs SET ended = 1 WHERE token = ?", (token,))

        await self._do(write)

    async def take(self, key: str, token: str | None = None) -> Taken | None:
        """An answer that is known (of that job, or of any), which counts as paid from here on; `None` where there is
        none. One that is paid already comes first: the other will be told as unused."""

        def write(run: sqlite3.Connection) -> Taken | None:
            row = run.execute(
                "SELECT answer, paid, token FROM records WHERE key = ? AND token = coalesce(?, token)"
                " AND answer IS NOT NULL ORDER BY paid DESC LIMIT 1",
                (key, token),
            ).fetchone()
            if row is None:
                return None
            run.execute("UPDATE records SET paid = 1 WHERE key = ? AND token = ?", (key, row[2]))
            return Taken(row[0], bool(row[1]))

        return await self._do(write)

    async def untaken(self, token: str) -> tuple[Unused, ...]:
        """Answers that nobody was given; they count as paid from here on."""

        def write(run: sqlite3.Connection) -> tuple[Unused, ...]:
            rows = run.execute(
                "SELECT key, answer, class FROM records WHERE token = ? AND paid = 0 AND answer IS NOT NULL", (token,)
            ).fetchall()
            run.execute("UPDATE records SET paid = 1 WHERE token = ? AND answer IS NOT NULL", (token,))
            return tuple(Unused(*row) for row in rows)

        return await self._do(write)

    async def unfinished(self) -> tuple[KnownJob, ...]:
        """Jobs whose output was not read to the end."""

        def read(run: sqlite3.Connection) -> tuple[KnownJob, ...]:
            found = run.execute(
                "SELECT token, deployment, input_uri, output_uri, planned_at, arn FROM jobs"
                " WHERE ended = 0 ORDER BY planned_at"
            ).fetchall()
            return tuple(
                KnownJob(token, deployment, given, made, _keys(run, token), planned_at, arn)
                for token, deployment, given, made, planned_at, arn in found
            )

        return await self._do(read)

    async def unsettled(self) -> tuple[tuple[str, str, str], ...]:
        """Key, token and deployment of each answer that was read."""

        def read(run: sqlite3.Connection) -> tuple[tuple[str, str, str], ...]:
            return tuple(
                run.execute(
                    "SELECT key, token, deployment FROM records JOIN jobs USING (token) WHERE answer IS NOT NULL"
                ).fetchall()
            )

        return await self._do(read)

    async def purge(self, *, before_at: float) -> int:
        """Forget jobs that have ended and were planned before that wall time; how many."""

        def write(run: sqlite3.Connection) -> int:
            run.execute(
                "DELETE FROM records WHERE token IN (SELECT token FROM jobs WHERE ended = 1 AND planned_at < ?)",
                (before_at,),
            )
            return run.execute("DELETE FROM jobs WHERE ended = 1 AND planned_at < ?", (before_at,)).rowcount

        return await self._do(write)

    async def close(self) -> None:
        """Close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=True)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction on the thread. A caller that is cancelled leaves it to end by itself."""

        def once() -> T:
            try:
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    return work(self._connection)
            except (sqlite3.Error, msgspec.DecodeError) as error:
                raise JournalError(f"batch jobs {self._path}: {error}") from error

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, once))


def _keys(run: sqlite3.Connection, token: str) -> tuple[str, ...]:
    """By number; empty where the record has no answer and goes elsewhere."""
    rows = run.execute("SELECT number, key FROM records WHERE token = ?", (token,)).fetchall()
    keys = dict(rows)
    return tuple(keys.get(number, "") for number in range(max(keys, default=-1) + 1))


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"batch jobs {path}: {error}") from error
    try:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, VERSION}:
            raise JournalError(
                f"batch jobs {path}: version {version} was written by another release (this one reads {VERSION})"
            )
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        if version == 0:
            connection.executescript(_SCHEMA)
    except sqlite3.OperationalError as error:
        connection.close()
        hint = "; another process has it open" if "locked" in str(error) else ""
        raise JournalError(f"batch jobs {path}: {error}{hint}") from error
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"batch jobs {path}: {error}; move the file away to start with an empty one") from error
    except JournalError:
        connection.close()
        raise
    return connection
