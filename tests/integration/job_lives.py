"""A router's lives beside one AWS that runs batch jobs, by a clock that tests move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.jobs.aws import AwsJobService
from router.backends.aws.jobs.backend import JobsBackend
from router.domain.aws.job import JobTerms
from router.domain.control.jobs import JobChanged
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Tier
from router.domain.events import Event
from router.domain.outcome import Attempt, AttemptId, Delta
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


def echo(call: Any) -> Answer:
    return Answer(pieces=(call.params["messages"][0]["content"][0]["text"],), input_tokens=1000, output_tokens=100)


@asynccontextmanager
async def open_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
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
        one = Bench(double, world, clock, folder)
        yield one
        await one.restart()
        await one.backend.close()
    assert world.drift == []


def text(delta: Delta | BaseException) -> str:
    assert isinstance(delta, Delta)
    said: str = msgspec.json.decode(delta.choices)[0]["message"]["content"]
    return said
