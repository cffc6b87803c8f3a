"""What AWS does at the edges of a batch job costs nobody an answer and is paid once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from router.backends.aws.jobs.aws import AwsJobService
from router.domain.aws.job import JobStatus
from router.domain.control.jobs import AnswersUnused
from router.domain.deployment import Address
from router.domain.errors import Refused, Returned
from router.domain.outcome import PAID_BEFORE, Usage
from router.doubles.aws.server import aws_double
from tests.regressions.job_lanes import ARN, MODEL, Lanes, attempt, jobs, refused


async def test_a_job_that_ended_before_it_could_be_stopped_is_read_all_the_same(tmp_path: Path) -> None:
    """AWS refuses to stop what is done. What it did was paid: it is counted, and not asked to stop for ever."""
    lanes = Lanes(tmp_path, jobs())
    task = await lanes.going(attempt(jobs()))
    await lanes.passes(1.0)
    task.cancel()
    await asyncio.wait([task])
    await lanes.passes(6.0, 110.0)
    lanes.service.stop_is = refused("ConflictException", "the job is Completed")
    lanes.service.status_is = JobStatus.COMPLETED
    await lanes.passes(*[60.0] * 8)
    unused = [e for e in lanes.events if isinstance(e, AnswersUnused)]
    assert [e.records for e in unused] == [1]
    assert unused[0].cost_usd == pytest.approx(1.0)
    await lanes.backend.close()


async def test_two_who_wait_for_one_record_pay_for_it_once(tmp_path: Path) -> None:
    """A request that was delivered twice is one record of the job, which AWS bills once."""
    lanes = Lanes(tmp_path, jobs())
    tasks = [await lanes.going(attempt(jobs())) for _ in range(2)]
    while len(next(iter(lanes.backend._lanes["jobs"]._waiters.values()))) < 2:
        await asyncio.sleep(0)
    await lanes.passes(1.0)
    lanes.service.status_is = JobStatus.COMPLETED
    await lanes.passes(60.0)
    answers = await asyncio.gather(*tasks)
    assert sorted(str(delta.served_as) for delta in answers) == ["None", PAID_BEFORE]
    await lanes.backend.close()


async def test_a_lane_that_breaks_leaves_the_others_alone(tmp_path: Path) -> None:
    """Its error is told, and the lane behind it begins its job."""
    lanes = Lanes(tmp_path, jobs("a"), jobs("b"))
    lanes.service.fails_for = "a"
    tasks = [await lanes.going(attempt(jobs("a"))), await lanes.going(attempt(jobs("b"), "other"))]
    while "b" not in lanes.backend._lanes or not lanes.backend._lanes["b"]._waiters:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await lanes.passes(1.0)
    assert len(lanes.backend._lanes["b"]._jobs) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await lanes.backend.close()


@pytest.mark.parametrize(("waited_s", "is_believed"), [(60.0, False), (600.0, True)])
async def test_a_new_job_that_is_not_known_yet_is_asked_about_again(
    tmp_path: Path, waited_s: float, is_believed: bool
) -> None:
    """Its requests are sent elsewhere, to be paid twice, only when it is still not known after minutes."""
    lanes = Lanes(tmp_path, jobs())
    task = await lanes.going(attempt(jobs()))
    await lanes.passes(1.0)
    lanes.service.status_is = Refused("ResourceNotFoundException: no such job")
    await lanes.passes(waited_s)
    await asyncio.sleep(0)
    assert task.done() is is_believed
    lanes.service.status_is = JobStatus.COMPLETED
    if is_believed:
        assert isinstance(task.exception(), Returned)
    else:
        await lanes.passes(300.0)
        assert (await task).usage == Usage(1_000_000, 0)
    await lanes.backend.close()


async def test_a_job_is_asked_about_in_the_region_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy may have moved its deployment since; and what is not there any more is no fault of the address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    service = AwsJobService()
    async with aws_double() as double:
        moved = replace(jobs(), address=Address("bedrock_jobs", MODEL, url=double.url, region="eu-west-1"))
        with pytest.raises(Refused) as told:
            await service.status(moved, ARN)
        assert (double.world.calls[-1].region, told.value.code) == ("us-east-1", "backend_refused")
        await service.close()
