"""What must survive a restart so that no batch job is made twice, read twice or paid twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class KnownJob(Struct, frozen=True):
    """A job as it was written down. `token` makes its submission idempotent; `arn` is `None` until the service is known
    to have it; `keys` are its records in order. `planned_at` is wall time. `classes` are the request classes of its
    records in the same order, told once, when it is planned."""

    token: str
    deployment: str
    input_uri: str
    output_uri: str
    keys: tuple[str, ...]
    planned_at: float
    arn: str | None = None
    classes: tuple[str, ...] = ()


class Result(Struct, frozen=True):
    """What became of a record: an answer, or why there is none. `is_taken`: somebody is given it, and pays for it."""

    key: str
    answer: bytes
    error: str | None
    is_taken: bool


class Taken(Struct, frozen=True):
    """An answer from the store. `is_paid`: it was given to somebody before, or counted as unused."""

    answer: bytes
    is_paid: bool


class Unused(Struct, frozen=True):
    """An answer that nobody was given, and the request class that it was asked for ("" where nobody said)."""

    key: str
    answer: bytes
    request_class: str


class JobStore(Protocol):
    """Durable memory of batch jobs. Every coroutine returns only when the write is on disk; `JournalError` where the
    disk will not take it."""

    async def plan(self, job: KnownJob) -> None:
        """Write a job down before the service is asked for it."""
        ...

    async def submitted(self, token: str, arn: str) -> None:
        """The service has it."""
        ...

    async def drop(self, token: str) -> None:
        """There is no such job, or nothing came of it: its records are free again."""
        ...

    async def results(self, token: str, results: Sequence[Result]) -> None:
        """Some of its output, read. What is known of a record already stays."""
        ...

    async def ended(self, token: str) -> None:
        """All of its output is read; records without an answer are free again."""
        ...

    async def take(self, key: str, token: str | None = None) -> Taken | None:
        """An answer that is known (of that job, or of any), which counts as paid from here on; `None` where there is
        none."""
        ...

    async def untaken(self, token: str) -> tuple[Unused, ...]:
        """Answers that nobody was given; they count as paid from here on."""
        ...

    async def unfinished(self) -> tuple[KnownJob, ...]:
        """Jobs whose output was not read to the end."""
        ...

    async def unsettled(self) -> tuple[tuple[str, str, str], ...]:
        """Key, token and deployment of each answer that was read."""
        ...

    async def purge(self, *, before_at: float) -> int:
        """Forget jobs that have ended and were planned before that wall time; how many."""
        ...

    async def close(self) -> None:
        """Close the file."""
        ...
