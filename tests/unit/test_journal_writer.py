"""The journal: what it promises a caller once a write has returned, and what its file bears."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest

from router.domain.errors import JournalError
from router.ports.journal import Entry
from router.storage.journal import SqliteJournal
from router.storage.journal_rows import Rows
from tests.unit.journal_messages import REPLY, message


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """A journal that is closed at the end."""
    opened = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
    yield opened
    await opened.close()


async def after_a_kill(path: Path, into: Path) -> tuple[Entry, ...]:
    """What a process finds that starts after this one was killed now: the bytes in the files, nothing else."""
    into.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, into / file.name)
    reopened = SqliteJournal(into / path.name)
    try:
        return await reopened.unfinished()
    finally:
        await reopened.close()


async def test_every_write_that_returned_survives_a_kill(tmp_path: Path) -> None:
    """After each await of an exchange a killed process's successor finds exactly that state."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    first = message()
    assert await journal.receive(first) is None
    assert await after_a_kill(path, tmp_path / "received") == (Entry(first, 0, None, (first.asker,)),)
    await journal.call_started(first.key)
    assert (await after_a_kill(path, tmp_path / "called"))[0].calls == 1
    await journal.answered(first.key, REPLY)
    (answered,) = await after_a_kill(path, tmp_path / "answered")
    assert answered.replies == REPLY
    assert answered.askers == (first.asker,)
    await journal.delivered(first.key, first.asker)
    assert await after_a_kill(path, tmp_path / "delivered") == ()
    await journal.close()


async def test_writes_that_wait_go_into_one_commit(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability does not cost a sync a message: what comes while one commit is under way is the next."""
    commits, all_wait = 0, Event()
    commit = Rows.commit

    def counted(rows: Rows) -> None:
        nonlocal commits
        commits += 1
        assert all_wait.wait(60.0)
        commit(rows)

    monkeypatch.setattr(Rows, "commit", counted)
    writes = [asyncio.create_task(journal.receive(message(str(number)))) for number in range(300)]
    await asyncio.sleep(0)
    assert journal.backlog == 300
    all_wait.set()
    await asyncio.gather(*writes)
    assert commits in (1, 2)
    assert len(await journal.unfinished()) == 300


async def test_a_bad_write_fails_alone(journal: SqliteJournal) -> None:
    """What cannot be stored fails its caller and none of those it was grouped with."""
    bad = message("lone surrogate \ud800", properties=())
    results = await asyncio.gather(
        *(journal.receive(m) for m in (message("before"), bad, message("after"))), return_exceptions=True
    )
    assert [results[0], results[2]] == [None, None]
    assert isinstance(results[1], Exception)
    assert len(await journal.unfinished()) == 2


async def test_a_cancelled_caller_does_not_disturb_the_others(journal: SqliteJournal) -> None:
    """Its write may be done; the next ones return."""
    waiting = asyncio.create_task(journal.receive(message("gone")))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await journal.receive(message("here")) is None
    assert journal.backlog == 0


async def test_the_backlog_is_bounded(tmp_path: Path) -> None:
    """Beyond the bound a write is refused at once, with a code of its own, and nothing of it is kept."""
    journal = SqliteJournal(tmp_path / "journal.db", synchronous="OFF", max_backlog=2)
    tasks = [asyncio.create_task(journal.receive(message(name))) for name in "abc"]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), JournalError]
    assert isinstance(results[2], JournalError)
    assert results[2].code == "journal_full"
    assert len(await journal.unfinished()) == 2
    await journal.close()


async def test_a_full_journal_says_so_and_takes_more_once_there_is_room(tmp_path: Path) -> None:
    """No room on the disk is an error of the write, which may be tried again after a purge."""
    journal = SqliteJournal(tmp_path / "journal.db", synchronous="OFF", max_bytes=200_000)
    taken, refused = 0, None
    while refused is None:
        try:
            await journal.receive(message(str(taken), payload=b"x" * 10_000))
            taken += 1
        except JournalError as error:
            refused = error
    assert "full" in refused.message
    assert len(await journal.unfinished()) == taken
    for number in range(taken):
        await journal.delivered(message(str(number)).key, message().asker)
    assert await journal.purge(before_at=2000.0) == taken
    assert await journal.receive(message("more", payload=b"x" * 10_000)) is None
    await journal.close()


async def test_close_writes_what_waits(tmp_path: Path) -> None:
    """A write that was begun before `close` is on the disk after it; one after is refused."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    writes = [asyncio.create_task(journal.receive(message(str(number)))) for number in range(50)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*writes)
    with pytest.raises(JournalError, match="closed"):
        await journal.receive(message("late"))
    reopened = SqliteJournal(path)
    assert len(await reopened.unfinished()) == 50
    await reopened.close()


async def test_one_owner_at_a_time(tmp_path: Path) -> None:
    """A second router on the same file is refused: it would answer the same requests again."""
    path = tmp_path / "journal.db"
    owner = SqliteJournal(path)
    with pytest.raises(JournalError, match="another process"):
        SqliteJournal(path)
    await owner.close()


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    """The error says which file and what to do."""
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(JournalError, match=r"journal\.db: file is not a database; move"):
        SqliteJournal(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """It is not guessed at."""
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="version 99"):
        SqliteJournal(path)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """It holds prompts."""
    path = tmp_path / "deep" / "journal.db"
    journal = SqliteJournal(path)
    assert path.stat().st_mode & 0o077 == 0
    asyncio.run(journal.close())
