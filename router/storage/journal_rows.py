"""The journal's tables and what is done to them, inside a transaction that `journal` opens and commits.

`requests` holds one row a key: small columns first, so that looking for old rows does not read the blobs.
`askers` holds who still waits: an entry is finished when it has none.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from router.domain.errors import JournalError
from router.ports.journal import Asker, Entry, Published, Received

VERSION = 1
_SCHEMA = f"""
BEGIN EXCLUSIVE;
CREATE TABLE requests (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, received_at REAL NOT NULL,
  calls INTEGER NOT NULL DEFAULT 0, keep INTEGER NOT NULL DEFAULT 1,
  digest BLOB NOT NULL, message BLOB NOT NULL, payload BLOB NOT NULL, replies BLOB);
CREATE TABLE askers (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, response_topic TEXT NOT NULL, correlation_data BLOB);
CREATE INDEX askers_by_key ON askers (key);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_read_received = msgspec.msgpack.Decoder(Received).decode
_read_replies = msgspec.msgpack.Decoder(tuple[Published, ...]).decode


class Rows:
    """Statements on one connection, used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def begin(self) -> None:
        """Start a transaction."""
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Put it on the disk."""
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Undo what is left of a failed transaction; one that cannot be undone fails the next `begin`."""
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def receive(self, message: Received, bare: bytes, digest: bytes, attach: bool) -> Entry | None:
        """Insert, or say what is known and add the asker to those who wait, once. `bare` has no payload."""
        key = message.key
        added = self._execute(
            "INSERT INTO requests (key, received_at, digest, message, payload) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (key, message.received_at, digest, bare, message.payload),
        )
        asker = (key, message.response_topic, message.correlation_data)
        if added.rowcount == 1:
            self._execute("INSERT INTO askers (key, response_topic, correlation_data) VALUES (?, ?, ?)", asker)
            return None
        known = self._execute("SELECT digest FROM requests WHERE key = ?", (key,)).fetchone()
        same = known[0] == digest
        if same and attach:
            self._execute(
                "INSERT INTO askers (key, response_topic, correlation_data) SELECT ?1, ?2, ?3 WHERE NOT"
                " EXISTS (SELECT 1 FROM askers WHERE (key, response_topic) = (?1, ?2)"
                " AND correlation_data IS ?3)",
                asker,
            )
        return self._entry(key, same=same)

    def call_started(self, key: str) -> None:
        """Count one call."""
        self._execute("UPDATE requests SET calls = calls + 1 WHERE key = ?", (key,))

    def answered(self, key: str, replies: bytes, keep: bool) -> None:
        """Set the reply; the prompt is forgotten, its digest stays."""
        self._execute("UPDATE requests SET replies = ?, keep = ?, payload = x'' WHERE key = ?", (replies, keep, key))

    def delivered(self, key: str, asker: Asker) -> None:
        """One asker less; an answer that is not kept goes with the last."""
        self._execute(
            "DELETE FROM askers WHERE key = ? AND response_topic = ? AND correlation_data IS ?",
            (key, asker.response_topic, asker.correlation_data),
        )
        self._execute(
            "DELETE FROM requests WHERE key = ?1 AND keep = 0 AND replies IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM askers WHERE key = ?1)",
            (key,),
        )

    def unfinished(self) -> tuple[Entry, ...]:
        """Entries with askers, in order of receipt."""
        keys = self._execute("SELECT key FROM askers GROUP BY key ORDER BY min(id)").fetchall()
        return tuple(self._entry(key, same=True) for (key,) in keys)

    def purge(self, before_at: float, after: int, step: int) -> tuple[int, int | None]:
        """Look at `step` rows after id `after`: how many went, and where to go on if there may be more."""
        rows = self._execute(
            "SELECT id, received_at, EXISTS (SELECT 1 FROM askers WHERE askers.key = requests.key)"
            " FROM requests WHERE id > ? ORDER BY id LIMIT ?",
            (after, step),
        ).fetchall()
        old = [(row[0],) for row in rows if row[1] < before_at and not row[2]]
        for row in old:
            self._execute("DELETE FROM requests WHERE id = ?", row)
        more = len(rows) == step and rows[-1][1] < before_at
        return len(old), rows[-1][0] if more else None

    def _entry(self, key: str, *, same: bool) -> Entry:
        message, payload, calls, keep, replies = self._execute(
            "SELECT message, payload, calls, keep, replies FROM requests WHERE key = ?", (key,)
        ).fetchone()
        askers = self._execute("SELECT response_topic, correlation_data FROM askers WHERE key = ? ORDER BY id", (key,))
        return Entry(
            received=replace(_read_received(message), payload=payload),
            calls=calls,
            replies=None if replies is None else _read_replies(replies),
            askers=tuple(Asker(topic, data) for topic, data in askers),
            keep=bool(keep),
            same=same,
        )


def open_rows(path: Path, synchronous: str, max_bytes: int | None) -> Rows:
    """Open or create the file, alone. `JournalError` says what is wrong and what to do."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it holds prompts
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.5)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"journal {path}: {error}") from error
    try:
        _prepare(connection, synchronous, max_bytes)
    except sqlite3.OperationalError as error:
        connection.close()
        hint = "; another process has it open" if "locked" in str(error) else ""
        raise JournalError(f"journal {path}: {error}{hint}") from error
    except sqlite3.Error as error:
        connection.close()
        raise JournalError(f"journal {path}: {error}; move the file away to start with an empty one") from error
    except JournalError as error:
        connection.close()
        raise JournalError(f"journal {path}: {error.message}") from None
    return Rows(connection)


def _prepare(connection: sqlite3.Connection, synchronous: str, max_bytes: int | None) -> None:
    for pragma in (
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        "wal_autocheckpoint = 4000",
        "cache_size = -32000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in {0, VERSION}:
        raise JournalError(f"version {version} was written by another release (this one reads {VERSION})")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")
    if version == 0:
        connection.executescript(_SCHEMA)
    if max_bytes is not None:
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {max(max_bytes // page_bytes, 1)}")
