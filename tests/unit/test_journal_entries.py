"""The journal: what it knows of each request, whatever is written in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ports.journal import Asker, Published
from router.storage.journal import PURGE_STEP, SqliteJournal
from tests.unit.journal_messages import REPLY, message


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    """A journal that is closed at the end."""
    opened = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
    yield opened
    await opened.close()


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


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("receive", "call", "answer", "pass", "deliver")),
        st.sampled_from("ab"),
        st.sampled_from((b"1", b"2")),
    ),
    max_size=25,
)


class Model:
    """What one request should be."""

    def __init__(self) -> None:
        self.calls, self.keep = 0, True
        self.replies: tuple[Published, ...] | None = None
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


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_any_order_of_writes_agrees_with_a_dictionary(
    operations: list[tuple[str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The journal is a dictionary of requests with their askers, whatever is done in whatever order."""
    asyncio.run(_compare(operations, tmp_path_factory.mktemp("journal") / "journal.db"))
