"""Batch jobs of AWS over a service that does as the test says, on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError
from msgspec.structs import replace

from router.backends.aws.errors import backend_error
from router.backends.aws.jobs.backend import JobsBackend
from router.backends.aws.jobs.service import Told
from router.domain.aws.job import JobStatus, JobTerms
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, Kind, Price
from router.domain.errors import BackendError
from router.domain.events import Event
from router.domain.outcome import Attempt, AttemptId, Delta
from router.ports.jobs import KnownJob
from router.storage.jobs.store import SqliteJobStore
from router.wire.openai import Envelope, read_request
from tests.regressions.house import deployment

MODEL = "meta.llama3-8b-instruct-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abcdefghij12"
TERMS = JobTerms("s3://b/p", "arn:aws:iam::123456789012:role/batch", min_records=1, max_records=1, margin_s=0.0)
LINE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Yes."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1_000_000, "outputTokens": 0, "totalTokens": 1_000_000},
}


class Clock:
    """Seconds that stand still until they are moved."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    at = stopwatch = now


class Service:
    """Jobs of AWS as the test says they are."""

    def __init__(self) -> None:
        self.status_is: JobStatus | BackendError = JobStatus.IN_PROGRESS
        self.stop_is: BackendError | None = None
        self.fails_for: str | None = None

    async def put(self, deployment: Deployment, uri: str, body: bytes) -> None:
        if deployment.name == self.fails_for:
            raise RuntimeError("out of order")

    async def submit(self, deployment: Deployment, job: KnownJob) -> str:
        return ARN

    async def find(self, deployment: Deployment, job: KnownJob) -> str | None:
        return None

    async def status(self, deployment: Deployment, arn: str) -> Told:
        if isinstance(self.status_is, BackendError):
            raise self.status_is
        return Told(self.status_is)

    async def stop(self, deployment: Deployment, arn: str) -> None:
        if self.stop_is is not None:
            raise self.stop_is

    async def lines(self, deployment: Deployment, job: KnownJob) -> AsyncIterator[bytes]:
        for number in range(len(job.keys)):
            yield msgspec.json.encode({"recordId": f"R{number:010d}", "modelOutput": LINE})

    async def close(self) -> None:
        pass


class Lanes:
    """The backend of batch jobs over that, with a store on disk."""

    def __init__(self, folder: Path, *deployments: Deployment) -> None:
        self.clock, self.service, self.events = Clock(), Service(), list[Event]()
        store = SqliteJobStore(folder / "jobs.sqlite")
        self.backend = JobsBackend(store, self.service, self.clock, self.events.append, lambda: deployments)

    async def going(self, attempt: Attempt) -> asyncio.Task[Delta]:
        task = asyncio.ensure_future(anext(self.backend.open(attempt)))
        while not any(self.backend._lanes[d]._waiters for d in self.backend._lanes):
            await asyncio.sleep(0)
        return task

    async def passes(self, *seconds: float) -> None:
        for one in seconds:
            self.clock.time += one
            await self.backend.tick()


def jobs(name: str = "jobs") -> Deployment:
    address = Address("bedrock_jobs", MODEL, region="us-east-1")
    return deployment(name, kind=Kind.JOB, address=address, price=Price(1.0, 1.0), job=TERMS)


def attempt(of: Deployment, name: str = "r", **fields: Any) -> Attempt:
    body = msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}]})
    metadata = fields.pop("metadata", {})
    request = read_request(body, Envelope(id=name, arrived=0.0, at=0.0, source="test"))
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=replace(request, attributes=tuple(metadata.items())),
        deployment=of,
        number=1,
        started=0.0,
        deadline=None,
        stream=False,
        **fields,
    )


def refused(code: str, message: str, status: int = 400) -> BackendError:
    meta = {"HTTPStatusCode": status, "HTTPHeaders": {}}
    return backend_error(
        ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "Converse")
    )
