"""The memory of job lanes for one run: nothing came before it, nothing comes after."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from router.ports.jobs import KnownJob, Result, Taken, Unused


class _Kept:
    """An answer, and whether somebody has paid for it."""

    __slots__ = ("answer", "is_paid")

    def __init__(self, answer: bytes, is_paid: bool) -> None:
        self.answer, self.is_paid = answer, is_paid


class MemoryJobStore:
    """`JobStore` that ends with the process."""

    def __init__(self) -> None:
        self._jobs: dict[str, KnownJob] = {}
        self._ended: set[str] = set()
        self._answers: dict[str, dict[str, _Kept]] = {}
        self.settled = asyncio.Event()
        """Nothing more will be paid: of each job it is known who paid for which answer."""
        self.settled.set()

    async def plan(self, job: KnownJob) -> None:
        """A job begins."""
        self._jobs[job.token] = job
        self.settled.clear()

    async def submitted(self, token: str, arn: str) -> None:
        """The service has it."""
        self._jobs[token] = replace(self._jobs[token], arn=arn)

    async def drop(self, token: str) -> None:
        """Nothing came of it."""
        self._over(token)

    async def results(self, token: str, results: Sequence[Result]) -> None:
        """Some of its output. What is known of a record already stays."""
        for one in results:
            if one.error is None:
                self._answers.setdefault(one.key, {}).setdefault(token, _Kept(one.answer, one.is_taken))

    async def ended(self, token: str) -> None:
        """All of its output is read."""
        self._ended.add(token)

    async def take(self, key: str, token: str | None = None) -> Taken | None:
        """An answer that is known, which counts as paid from here on; one that is paid already comes first."""
        kept = [one for job, one in self._answers.get(key, {}).items() if token in {None, job}]
        if not kept:
            return None
        first = max(kept, key=lambda one: one.is_paid)
        was_paid, first.is_paid = first.is_paid, True
        return Taken(first.answer, was_paid)

    async def untaken(self, token: str) -> tuple[Unused, ...]:
        """Answers that nobody was given: with them its bill is settled."""
        job, found = self._over(token), []
        for key, name in zip(job.keys, job.classes, strict=True):
            kept = self._answers.get(key, {}).get(token)
            if kept is not None and not kept.is_paid:
                kept.is_paid = True
                found.append(Unused(key, kept.answer, name))
        return tuple(found)

    async def unfinished(self) -> tuple[KnownJob, ...]:
        """Jobs whose output was not read to the end."""
        return tuple(job for token, job in self._jobs.items() if token not in self._ended)

    async def unsettled(self) -> tuple[tuple[str, str, str], ...]:
        """Of an earlier life: there was none."""
        return ()

    async def purge(self, *, before_at: float) -> int:
        """A run is short: all of it stays."""
        return 0

    async def close(self) -> None:
        """Nothing to close."""

    def _over(self, token: str) -> KnownJob:
        job = self._jobs.pop(token)
        if not self._jobs:
            self.settled.set()
        return job
