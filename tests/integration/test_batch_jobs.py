"""Batch jobs through the real SDK against the double's Bedrock and moto's S3, with the store on disk.

Time is a clock that the tests move: the backend's ticks and the double's jobs go by it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.jobs.aws import AwsJobService
from router.backends.aws.jobs.backend import JobsBackend
from router.domain.aws.job import JobTerms
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Tier
from router.domain.errors import JournalError, Refused, Returned
from router.domain.events import Event
from router.domain.outcome import PAID_BEFORE, Attempt, AttemptId, Delta
from router.doubles.aws.faults import Fault
from router.doubles.aws.models import Answer, Model, Prices
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.storage.jobs.store import SqliteJobStore
from router.wire.openai import Envelope, read_request

HOUR_S = 3600.0
MODEL = "anthropic.claude-3-haiku"
TERMS = JobTerms(
    "s3://jobs/router",
    "arn:aws:iam::123456789012:role/batch",
    min_records=3,
    max_records=5,
    collect_s=60.0,
    typical_s=HOUR_S,
    margin_s=30.0,
)


class Clock:
    """Monotonic and wall seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def at(self) -> float:
        return 1_800_000_000.0 + self.time

    def stopwatch(self) -> float:
        return self.time


class Bench:
    """A router's lives beside one AWS, with the requests that are asked of it."""

    def __init__(self, double: AwsDouble, world: World, clock: Clock, folder: Path) -> None:
        self.double, self.world, self.clock, self._folder = double, world, clock, folder
        self.events: list[Event] = []
        self.waiting: dict[str, asyncio.Task[Delta]] = {}
        self.deployment = Deployment(
            name=DeploymentName("haiku-jobs"),
            group="haiku-jobs",
            model="haiku",
            tier=Tier.SMALL,
            kind=Kind.JOB,
            lane=Lane.BATCH,
            address=Address("bedrock_jobs", MODEL, url=double.url, region="us-east-1"),
            price=Price(0.5, 2.5),
            job=TERMS,
        )
        self.begin()

    def begin(self) -> None:
        """A new life over the same store."""
        session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        store = SqliteJobStore(self._folder / "jobs.sqlite")
        service = AwsJobService(session)
        self.backend = JobsBackend(store, service, self.clock, self.events.append, lambda: (self.deployment,))

    async def restart(self) -> None:
        """The process ends: whoever waits is cut off; another begins."""
        for task in self.waiting.values():
            task.cancel()
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        self.waiting.clear()
        await self.backend.close()
        self.begin()

    def attempt(self, name: str, *, due_s: float | None = None, leave_s: float | None = None) -> Attempt:
        now = self.clock.now()
        body = msgspec.json.encode({"messages": [{"role": "user", "content": f"Say {name}"}]})
        request = read_request(body, Envelope(id=name, arrived=0.0, at=0.0, source="test"))
        return Attempt(
            id=AttemptId(f"a-{name}"),
            decision_id=DecisionId("d"),
            request=request,
            deployment=self.deployment,
            number=1,
            started=now,
            deadline=None,
            stream=False,
            max_tokens=20,
            due=None if due_s is None else now + due_s,
            leave_at=None if leave_s is None else now + leave_s,
        )

    async def ask(self, *names: str, due_s: float | None = 9 * HOUR_S, leave_s: float | None = None) -> None:
        """These requests come, and wait."""
        await self.backend.start()
        for name in names:
            self.waiting[name] = asyncio.ensure_future(self._first(self.attempt(name, due_s=due_s, leave_s=leave_s)))
        await self._settle()

    async def _first(self, attempt: Attempt) -> Delta:
        async for delta in self.backend.open(attempt):
            return delta
        raise AssertionError("no answer")

    async def _settle(self) -> None:
        """Until the store has let all of them by: a question to it that is asked after theirs is answered after."""
        for _ in range(3):
            await self.backend._store.unsettled()

    async def passes(self, seconds: float) -> None:
        """Time passes, and the backend sees to what is due."""
        self.clock.time += seconds
        await self.backend.tick()
        await asyncio.sleep(0)

    async def answers(self) -> dict[str, Delta | BaseException]:
        """What those got who do not wait any more."""
        for _ in range(3):
            await asyncio.sleep(0)
        done = {name: task for name, task in self.waiting.items() if task.done()}
        return {name: task.exception() or task.result() for name, task in done.items()}

    def calls(self) -> Counter[str]:
        return Counter(call.operation for call in self.world.calls if call.service == "bedrock")

    def statuses(self) -> list[str]:
        return [event.new for event in self.events if isinstance(event, JobChanged)]

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def echo(call: Any) -> Answer:
    return Answer(pieces=(call.params["messages"][0]["content"][0]["text"],), input_tokens=1000, output_tokens=100)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A double with one model that says again what it was told, and whose jobs take an hour."""
    clock = Clock()
    world = World(now=clock.now, at=clock.at)
    world.models = {MODEL: Model(MODEL, prices=Prices(1.0, 5.0), says=echo)}
    world.batch.min_records, world.batch.takes_s = 3, HOUR_S
    async with aws_double(world, stores=True) as double:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", double.url)
        session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        async with session.client("s3") as s3:
            await s3.create_bucket(Bucket="jobs")
        one = Bench(double, world, clock, tmp_path)
        yield one
        await one.restart()
        await one.backend.close()
    assert world.drift == []


def text(delta: Delta | BaseException) -> str:
    assert isinstance(delta, Delta)
    said: str = msgspec.json.decode(delta.choices)[0]["message"]["content"]
    return said


async def test_requests_are_answered_by_one_job_at_half_price(bench: Bench) -> None:
    """Three requests, one job: each gets its own answer, with usage, and the job is asked for once."""
    await bench.ask("a", "b", "c")
    await bench.passes(1.0)
    assert bench.calls() == {}
    await bench.passes(60.0)
    assert bench.calls()["CreateModelInvocationJob"] == 1
    await bench.passes(600.0)
    assert await bench.answers() == {}
    await bench.passes(HOUR_S)
    answers = await bench.answers()
    assert {name: text(delta) for name, delta in answers.items()} == {n: f"Say {n}" for n in "abc"}
    first = answers["a"]
    assert isinstance(first, Delta)
    assert (first.whole, first.finish_reason, first.served_as) == (True, "stop", None)
    assert first.usage is not None
    assert (first.usage.input_tokens, first.usage.output_tokens) == (1000, 100)
    assert bench.statuses() == ["Planned", "Submitted", "InProgress", "Completed"]
    assert sum(bill.usd for bill in bench.world.bills) == pytest.approx(3 * 0.5 * (1000 * 1.0 + 100 * 5.0) * 1e-6)
    params = next(c.params for c in bench.world.calls if c.operation == "CreateModelInvocationJob")
    assert params["modelInvocationType"] == "Converse"
    assert params["timeoutDurationInHours"] == 24
    await bench.passes(200.0)
    assert bench.told(AnswersUnused) == []


async def test_too_few_go_elsewhere_when_their_slack_runs_out(bench: Bench) -> None:
    """Two requests are no job: they are given back in time to be answered elsewhere, and nothing is paid."""
    await bench.ask("a", "b", due_s=3 * HOUR_S)
    await bench.passes(HOUR_S)
    assert await bench.answers() == {}
    await bench.passes(HOUR_S)
    answers = await bench.answers()
    assert [type(error) for error in answers.values()] == [Returned, Returned]
    assert {error.code for error in answers.values() if isinstance(error, Returned)} == {"batch_too_few"}
    assert bench.told(RecordsReturned) == [RecordsReturned("haiku-jobs", "batch_too_few", 2)]
    assert (bench.calls(), list(bench.world.bills)) == ({}, [])


async def test_a_record_that_fails_goes_elsewhere_and_the_others_are_answered(bench: Bench) -> None:
    """Partial failure splits the job."""
    bench.world.batch.failing = frozenset({1})
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    answers = await bench.answers()
    assert [text(answers[name]) for name in "ac"] == ["Say a", "Say c"]
    assert isinstance(answers["b"], Returned)
    assert answers["b"].code == "batch_record_failed"


async def test_what_a_job_did_not_get_to_goes_elsewhere(bench: Bench) -> None:
    """A partially completed job answers what it has; the rest is decided again."""
    bench.world.batch.does = 0.67
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    answers = await bench.answers()
    assert [text(answers[name]) for name in "ab"] == ["Say a", "Say b"]
    assert isinstance(answers["c"], Returned)
    assert (answers["c"].code, bench.statuses()[-1]) == ("batch_failed", "PartiallyCompleted")


async def test_a_failed_job_sends_all_elsewhere(bench: Bench) -> None:
    """The service says Failed: nobody waits for its answers any longer, and nothing was billed."""
    bench.world.batch.fails = "the input is no good"
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(10.0)
    answers = await bench.answers()
    assert {getattr(error, "code", "") for error in answers.values()} == {"batch_failed"}
    assert (len(answers), list(bench.world.bills)) == (3, [])
    assert "the input is no good" in [event.reason for event in bench.told(JobChanged)]


async def test_a_job_that_is_refused_sends_all_elsewhere_at_once(bench: Bench) -> None:
    """A quota of jobs that is used up is asked again; a request that is wrong is not."""
    bench.world.faults.append(Fault(code="ThrottlingException", operation="CreateModelInvocationJob", times=1))
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    assert await bench.answers() == {}
    bench.world.faults.append(Fault(code="ValidationException", operation="CreateModelInvocationJob"))
    await bench.passes(31.0)
    assert len(await bench.answers()) == 3
    bench.world.faults.clear()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    assert [text(delta) for delta in (await bench.answers()).values()] == ["Say a", "Say b", "Say c"]


async def test_who_has_no_slack_leaves_the_running_job_and_its_answer_counts_as_unused(bench: Bench) -> None:
    """One of three leaves for another deployment in time; the late answer is told as paid in vain."""
    await bench.ask("a", "b")
    await bench.ask("c", leave_s=HOUR_S / 2)
    await bench.passes(61.0)
    await bench.passes(HOUR_S / 2 - 61.0)
    answers = await bench.answers()
    assert list(answers) == ["c"]
    assert getattr(answers["c"], "code", "") == "batch_late"
    await bench.passes(HOUR_S)
    assert text((await bench.answers())["a"]) == "Say a"
    await bench.passes(6.0)
    await bench.passes(120.0)
    (unused,) = bench.told(AnswersUnused)
    assert (unused.records, unused.cost_usd) == (1, pytest.approx((1000 * 0.5 + 100 * 2.5) * 1e-6))


async def test_a_job_that_nobody_waits_for_is_stopped(bench: Bench) -> None:
    """All senders leave: after a while the job is stopped, and what it did by then is told as paid in vain."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    for task in bench.waiting.values():
        task.cancel()
    await asyncio.gather(*bench.waiting.values(), return_exceptions=True)
    await bench.passes(HOUR_S / 2)
    await bench.passes(130.0)
    assert bench.calls()["StopModelInvocationJob"] == 1
    await bench.passes(301.0)
    await bench.passes(130.0)
    (unused,) = bench.told(AnswersUnused)
    assert unused.records == 2
    assert bench.told(JobsObserved)[-1].running == 0


async def test_a_restart_while_collecting_collects_anew(bench: Bench) -> None:
    """Nothing was asked of AWS yet: the requests come again and are in one job."""
    await bench.ask("a", "b", "c")
    await bench.restart()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S + 1.0)
    assert len(await bench.answers()) == 3
    assert bench.calls()["CreateModelInvocationJob"] == 1


@pytest.mark.parametrize("had_it", [True, False], ids=["the service has it", "the service has it not"])
async def test_a_restart_between_plan_and_submission_makes_one_job(bench: Bench, had_it: bool) -> None:
    """It is not known whether the service was asked: the job is looked for, else asked for by the same token."""

    async def cut(token: str, arn: str) -> None:
        raise JournalError("killed")

    store: Any = bench.backend._store
    if had_it:
        store.submitted = cut
    else:
        bench.world.faults.append(Fault(code="InternalServerException", operation="CreateModelInvocationJob", times=1))
    await bench.ask("a", "b", "c")
    if had_it:
        with pytest.raises(JournalError):
            await bench.passes(61.0)
    else:
        await bench.passes(61.0)
    await bench.restart()
    await bench.backend.start()
    assert bench.backend.home(bench.attempt("a").request) == "haiku-jobs"
    await bench.ask("a", "b", "c")
    await bench.passes(1.0)
    await bench.passes(HOUR_S + 61.0)
    assert {name: text(delta) for name, delta in (await bench.answers()).items()} == {n: f"Say {n}" for n in "abc"}
    assert len(bench.world.bills) == 3
    assert bench.calls()["ListModelInvocationJobs"] >= 1


async def test_a_restart_while_the_job_runs_attaches_to_it(bench: Bench) -> None:
    """The same requests come again: no second job, no second bill, and their answers when it is done."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.restart()
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    assert {name: text(delta) for name, delta in (await bench.answers()).items()} == {n: f"Say {n}" for n in "abc"}
    assert bench.calls()["CreateModelInvocationJob"] == 1
    assert len(bench.world.bills) == 3


async def test_a_restart_after_the_answers_hands_them_out_as_paid(bench: Bench) -> None:
    """The process died after the answer was read and before it was delivered: it is given again, and costs nothing."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    assert len(await bench.answers()) == 3
    reads = bench.calls()["GetModelInvocationJob"]
    await bench.restart()
    await bench.ask("a", "b", "c")
    answers = await bench.answers()
    assert {name: text(delta) for name, delta in answers.items()} == {n: f"Say {n}" for n in "abc"}
    assert {delta.served_as for delta in answers.values() if isinstance(delta, Delta)} == {PAID_BEFORE}
    assert bench.calls()["GetModelInvocationJob"] == reads


async def test_a_job_that_ended_while_nobody_ran_is_read_once(bench: Bench) -> None:
    """Answers that are read before the requests come again are kept for them, and are paid for then."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.restart()
    await bench.passes(HOUR_S)
    await bench.ask("a", "b")
    answers = await bench.answers()
    assert [delta.served_as for delta in answers.values() if isinstance(delta, Delta)] == [None, None]
    await bench.passes(60.0)
    assert bench.told(AnswersUnused) == []
    await bench.passes(61.0)
    assert [event.records for event in bench.told(AnswersUnused)] == [1]
    await bench.ask("c")
    (late,) = [delta for name, delta in (await bench.answers()).items() if name == "c"]
    assert isinstance(late, Delta)
    assert late.served_as == PAID_BEFORE


async def test_another_body_under_the_same_id_is_another_record(bench: Bench) -> None:
    """An answer belongs to the request it was made for."""
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    await bench.passes(HOUR_S)
    first = bench.attempt("a")
    body = b'{"messages":[{"role":"user","content":"Something else"}]}'
    other = msgspec.structs.replace(first, request=msgspec.structs.replace(first.request, payload=body))
    assert bench.backend.home(other.request) is None
    task = asyncio.ensure_future(bench._first(other))
    await bench._settle()
    assert not task.done()
    task.cancel()


async def test_what_converse_cannot_say_is_refused_before_it_is_collected(bench: Bench) -> None:
    """A request that could never be answered is in nobody's job."""
    attempt = bench.attempt("a")
    body = b'{"messages":[{"role":"user","content":"x"}],"n":3}'
    wrong = msgspec.structs.replace(attempt, request=msgspec.structs.replace(attempt.request, payload=body))
    with pytest.raises(Refused):
        await bench._first(wrong)


async def test_s3_that_does_not_answer_keeps_the_requests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input cannot be written: nothing is asked for, and the next try makes the job."""
    service: Any = bench.backend._service
    put = service.put

    async def broken(*args: Any) -> None:
        raise Returned("no S3")

    monkeypatch.setattr(service, "put", broken)
    await bench.ask("a", "b", "c")
    await bench.passes(61.0)
    assert (bench.calls(), await bench.answers()) == ({}, {})
    monkeypatch.setattr(service, "put", put)
    await bench.passes(20.0)
    await bench.passes(HOUR_S + 1.0)
    assert len(await bench.answers()) == 3
