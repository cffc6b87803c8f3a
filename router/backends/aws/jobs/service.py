"""What AWS is asked: S3 for the files, Bedrock for the jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from router.domain.aws.job import JobStatus
from router.domain.deployment import Deployment
from router.ports.jobs import KnownJob


class Told(Struct, frozen=True):
    """The status of a job, and what the service says about it."""

    status: JobStatus
    message: str = ""


class JobService(Protocol):
    """The calls that jobs need. All raise `BackendError` and nothing else."""

    async def put(self, deployment: Deployment, uri: str, body: bytes) -> None:
        """Write an object."""
        ...

    async def submit(self, deployment: Deployment, job: KnownJob) -> str:
        """Ask for a job and give its ARN; the same token asks for the same job."""
        ...

    async def find(self, deployment: Deployment, job: KnownJob) -> str | None:
        """The ARN of a job that was asked for, if the service knows it."""
        ...

    async def status(self, deployment: Deployment, arn: str) -> Told:
        """How a job stands."""
        ...

    async def stop(self, deployment: Deployment, arn: str) -> None:
        """Have it stopped; what is done by then is paid."""
        ...

    def lines(self, deployment: Deployment, job: KnownJob) -> AsyncIterator[bytes]:
        """Its output, line by line, in no order; nothing where it wrote none."""
        ...

    async def close(self) -> None:
        """Free connections."""
        ...
