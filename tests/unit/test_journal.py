"""The journal: what it promises a caller once a write has returned."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.domain.errors import JournalError
from router.ports.journal import Asker, Entry, Published, Received
from router.storage.journal import PURGE_STEP, SqliteJournal
from router.storage.journal_rows import Rows

REPLY = (Published(b'{"id":"1"}', (("router-model", "small"),)),)


def message(request_id: str = "a", **changes: object) -> Received:
    """A message from one producer."""
    fixed = Received(
        request_id=request_id,
        topic="router/requests/chat",
        payload=b'{"messages":[]}',
        response_topic="replies/1",
        correlation_data=b"\x00\xff",
        properties=(("request-id", request_id), ("class", "chat")),
        received_at=1000.0,
        expires_at=1060.5,
    )
    return replace(fixed, **changes)


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


async def test_a_duplicate_is_told_what_is_known(journal: SqliteJournal) -> None:
    """The second message of an id gets the entry, before and after the answer."""
    await journal.receive(message())
    pending = await journal.receive(message())
    assert pending is not None
    assert (pending.replies, pending.calls, pending.same) == (None, 0, True)
    await journal.answered(message().key, REPLY)
    answered = await journal.receive(message())
    assert answered is not None
    assert answered.replies == REPLY


async def test_each_asker_waits_once_until_it_is_delivered(journal: SqliteJournal) -> None:
    """A duplicate from elsewhere is owed the reply too; the same asker again is not owed it twice."""
    first, other = message(), message(response_topic="replies/2", correlation_data=None)
    for each in (first, other, first, other):
        await journal.receive(each)
    await journal.answered(first.key, REPLY)
    assert (await journal.unfinished())[0].askers == (first.asker, other.asker)
    await journal.delivered(first.key, first.asker)
    assert (await journal.unfinished())[0].askers == (Asker("replies/2", None),)
    await journal.delivered(first.key, other.asker)
    assert await journal.unfinished() == ()


async def test_a_duplicate_of_a_delivered_answer_is_owed_it_again(journal: SqliteJournal) -> None:
    """Once acknowledged a duplicate's reply survives a crash as the first one's does."""
    first = message()
    await journal.receive(first)
    await journal.answered(first.key, REPLY)
    await journal.delivered(first.key, first.asker)
    await journal.receive(message(correlation_data=b"again"))
    (owed,) = await journal.unfinished()
    assert (owed.askers, owed.replies) == ((Asker("replies/1", b"again"),), REPLY)


async def test_another_payload_under_an_id_changes_nothing(journal: SqliteJournal) -> None:
    """The conflicting message is told so; its asker is not added and the first stays as it was."""
    await journal.receive(message())
    conflict = await journal.receive(message(payload=b"other", response_topic="replies/2"))
    assert conflict is not None
    assert not conflict.same
    await journal.answered(message().key, REPLY)
    late = await journal.receive(message(payload=b"other"))
    assert late is not None
    assert not late.same, "the digest outlives the payload"
    assert (await journal.unfinished())[0].askers == (message().asker,)


async def test_tenants_do_not_share_request_ids(journal: SqliteJournal) -> None:
    """The same id of two tenants is two requests."""
    assert await journal.receive(message(tenant="a")) is None
    assert await journal.receive(message(tenant="b", payload=b"other")) is None


async def test_without_attach_a_known_id_is_left_alone(journal: SqliteJournal) -> None:
    """The question alone does not make an asker."""
    first = message()
    await journal.receive(first)
    known = await journal.receive(message(correlation_data=b"other"), attach=False)
    assert known is not None
    assert known.askers == (first.asker,)
    assert await journal.receive(message("new"), attach=False) is None


async def test_an_answer_that_is_not_kept_frees_its_id_with_the_last_delivery(journal: SqliteJournal) -> None:
    """Until then it is as durable as any other."""
    first, other = message(), message(correlation_data=b"other")
    await journal.receive(first)
    await journal.receive(other)
    await journal.answered(first.key, REPLY, keep=False)
    await journal.delivered(first.key, first.asker)
    (owed,) = await journal.unfinished()
    assert (owed.replies, owed.keep) == (REPLY, False)
    await journal.delivered(first.key, other.asker)
    assert await journal.receive(message(payload=b"changed")) is None


async def test_a_late_delivery_does_not_free_a_fresh_try(journal: SqliteJournal) -> None:
    """`delivered` of a former round has no effect on an id that is not answered yet."""
    await journal.receive(message())
    await journal.answered(message().key, REPLY, keep=False)
    await journal.delivered(message().key, message().asker)
    await journal.receive(message(correlation_data=b"retry"))
    await journal.delivered(message().key, message().asker)
    assert [entry.askers for entry in await journal.unfinished()] == [(Asker("replies/1", b"retry"),)]


async def test_unfinished_is_in_order_of_receipt(journal: SqliteJournal) -> None:
    """Whatever was delivered in between."""
    for name in "cabd":
        await journal.receive(message(name))
    await journal.answered(message("a").key, REPLY)
    await journal.delivered(message("a").key, message().asker)
    assert [entry.received.request_id for entry in await journal.unfinished()] == ["c", "b", "d"]


async def test_the_prompt_is_forgotten_once_answered(journal: SqliteJournal) -> None:
    """Only its digest stays with the reply."""
    await journal.receive(message())
    await journal.answered(message().key, REPLY)
    assert (await journal.unfinished())[0].received == message(payload=b"")


async def test_purge_forgets_what_is_old_and_delivered(journal: SqliteJournal) -> None:
    """Old entries that somebody waits for stay, and so do young ones; more than one step is looked at."""
    names = [f"old-{number}" for number in range(PURGE_STEP + 20)]
    for name in names:
        await journal.receive(message(name))
        if name != "old-3":
            await journal.delivered(message(name).key, message().asker)
    await journal.receive(message("young", received_at=5000.0))
    await journal.delivered(message("young").key, message().asker)
    assert await journal.purge(before_at=2000.0) == len(names) - 1
    assert await journal.receive(message("old-0")) is None
    assert await journal.receive(message("old-3")) is not None
    assert await journal.receive(message("young")) is not None


async def test_writes_that_wait_go_into_one_commit(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability does not cost a sync a message."""
    commits = 0
    commit = Rows.commit

    def counted(rows: Rows) -> None:
        nonlocal commits
        commits += 1
        commit(rows)

    monkeypatch.setattr(Rows, "commit", counted)
    await asyncio.gather(*(journal.receive(message(str(number))) for number in range(300)))
    assert commits < 100
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


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("receive", "call", "answer", "pass", "deliver")),
        st.sampled_from("ab"),
        st.sampled_from((b"1", b"2")),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_any_order_of_writes_agrees_with_a_dictionary(
    operations: list[tuple[str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The journal is a dictionary of requests with their askers, whatever is done in whatever order."""
    asyncio.run(_compare(operations, tmp_path_factory.mktemp("journal") / "journal.db"))


class Model:
    """What one request should be."""

    def __init__(self) -> None:
        self.calls, self.replies, self.keep = 0, None, True
        self.askers: list[bytes] = []


async def _compare(operations: list[tuple[str, str, bytes]], path: Path) -> None:
    journal = SqliteJournal(path, synchronous="OFF")
    model: dict[str, Model] = {}
    for kind, name, data in operations:
        arriving = message(name, correlation_data=data)
        known = model.get(name)
        if kind == "receive":
            entry = await journal.receive(arriving)
            assert (entry is None) == (known is None)
            known = model.setdefault(name, Model())
            if data not in known.askers:
                known.askers.append(data)
        elif kind == "call":
            await journal.call_started(arriving.key)
            if known:
                known.calls += 1
        elif kind in {"answer", "pass"}:
            await journal.answered(arriving.key, REPLY, keep=kind == "answer")
            if known:
                known.replies, known.keep = REPLY, kind == "answer"
        else:
            await journal.delivered(arriving.key, arriving.asker)
            if known:
                known.askers = [asker for asker in known.askers if asker != data]
                if known.replies and not known.keep and not known.askers:
                    del model[name]
    await journal.close()
    reopened = SqliteJournal(path, synchronous="OFF")
    found = {
        entry.received.request_id: (entry.calls, entry.replies, entry.keep, [a.correlation_data for a in entry.askers])
        for entry in await reopened.unfinished()
    }
    await reopened.close()
    assert found == {
        name: (each.calls, each.replies, each.keep, each.askers) for name, each in model.items() if each.askers
    }
