"""What survives a restart of batch jobs: plans, answers, and who has paid for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.domain.errors import JournalError
from router.ports.jobs import KnownJob, Result, Taken
from router.storage.jobs.store import SqliteJobStore

JOB = KnownJob("t", "jobs", "s3://b/i", "s3://b/o/", ("a", "b", "c"), 100.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteJobStore]:
    one = SqliteJobStore(tmp_path / "jobs.sqlite")
    yield one
    await one.close()


async def test_a_plan_is_there_in_the_next_life(tmp_path: Path) -> None:
    """With its records in order, and its ARN once the service has it."""
    first = SqliteJobStore(tmp_path / "jobs.sqlite")
    await first.plan(JOB)
    await first.submitted("t", "arn")
    await first.close()
    second = SqliteJobStore(tmp_path / "jobs.sqlite")
    (known,) = await second.unfinished()
    assert (known.keys, known.arn, known.planned_at) == (("a", "b", "c"), "arn", 100.0)
    await second.close()


async def test_an_answer_is_paid_for_once(store: SqliteJobStore) -> None:
    """Who is given it first pays; a record that failed has none."""
    await store.plan(JOB)
    await store.results(
        "t", (Result("a", b"A", None, True), Result("b", b"B", None, False), Result("c", b"", "error 400", False))
    )
    assert await store.take("a") == Taken(b"A", True)
    assert await store.take("b") == Taken(b"B", False)
    assert await store.take("b") == Taken(b"B", True)
    assert await store.take("c") is None


async def test_output_that_is_read_twice_changes_nothing(store: SqliteJobStore) -> None:
    """A crash in the middle of reading: the second reading keeps who has paid."""
    await store.plan(JOB)
    await store.results("t", (Result("a", b"A", None, True),))
    await store.results("t", (Result("a", b"other", None, False), Result("b", b"B", None, False)))
    assert await store.take("a") == Taken(b"A", True)
    assert [one.key for one in await store.untaken("t")] == ["b"]
    assert await store.untaken("t") == ()


async def test_a_job_that_is_over_leaves_only_its_answers(store: SqliteJobStore) -> None:
    """Records without an answer are free for another job."""
    await store.plan(JOB)
    await store.results("t", (Result("a", b"A", None, False),))
    await store.ended("t")
    assert await store.unfinished() == ()
    assert await store.unsettled() == (("a", "t", "jobs"),)
    await store.plan(KnownJob("u", "jobs", "i", "o", ("b", "c"), 200.0))
    assert [job.keys for job in await store.unfinished()] == [("b", "c")]


async def test_the_place_of_a_record_without_an_answer_stays_empty(store: SqliteJobStore) -> None:
    """So that the numbers of the others hold."""
    await store.plan(JOB)
    await store.results("t", (Result("b", b"", "error 400", False),))
    assert [job.keys for job in await store.unfinished()] == [("a", "", "c")]


async def test_a_record_in_two_jobs_has_an_answer_of_each(store: SqliteJobStore) -> None:
    """One lane gave it up and another took it: both jobs bill it, so the one that nobody is given counts as unused."""
    await store.plan(JOB)
    await store.plan(KnownJob("u", "other", "i", "o", ("b",), 200.0, classes=("nightly",)))
    assert [job.keys for job in await store.unfinished()] == [("a", "b", "c"), ("b",)]
    await store.results("u", (Result("b", b"first", None, True),))
    await store.results("t", (Result("b", b"late", None, False),))
    assert await store.take("b") == Taken(b"first", True)
    assert [(one.key, one.answer) for one in await store.untaken("t")] == [("b", b"late")]
    assert await store.untaken("u") == ()


async def test_whose_answer_it_is_is_known_when_nobody_took_it(store: SqliteJobStore) -> None:
    """Its request class pays for it; of a job that says no classes, none is known."""
    await store.plan(KnownJob("u", "jobs", "i", "o", ("d", "e"), 200.0, classes=("nightly", "chat")))
    await store.results("u", tuple(Result(key, b"A", None, False) for key in "de"))
    assert {one.key: one.request_class for one in await store.untaken("u")} == {"d": "nightly", "e": "chat"}


async def test_a_dropped_job_was_never_there(store: SqliteJobStore) -> None:
    """Nor its records."""
    await store.plan(JOB)
    await store.drop("t")
    assert (await store.unfinished(), await store.take("a")) == ((), None)


async def test_old_jobs_are_forgotten_and_running_ones_never(store: SqliteJobStore) -> None:
    """By the wall time of their plan."""
    await store.plan(JOB)
    await store.plan(KnownJob("u", "jobs", "i", "o", ("d",), 100.0))
    await store.results("u", (Result("d", b"D", None, False),))
    await store.ended("u")
    assert (await store.purge(before_at=100.0), await store.purge(before_at=100.5)) == (0, 1)
    assert await store.take("d") is None
    assert len(await store.unfinished()) == 1


async def test_a_second_process_is_refused(store: SqliteJobStore, tmp_path: Path) -> None:
    """It would make the same jobs again."""
    await store.plan(JOB)
    with pytest.raises(JournalError, match="another process has it open"):
        SqliteJobStore(tmp_path / "jobs.sqlite")


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    """With what to do about it; a folder that cannot be is told as well."""
    (tmp_path / "jobs.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(JournalError, match="move the file away"):
        SqliteJobStore(tmp_path / "jobs.sqlite")
    with pytest.raises(JournalError, match="batch jobs"):
        SqliteJobStore(tmp_path / "jobs.sqlite" / "x")


async def test_a_disk_that_will_not_take_it_is_told(store: SqliteJobStore) -> None:
    """The caller keeps what it has."""
    await store.plan(JOB)
    with pytest.raises(JournalError):
        await store.plan(JOB)
