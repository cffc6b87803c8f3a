"""The batch jobs of one deployment: who waits, what is collected, which jobs run, and what came of them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from uuid import uuid4

from msgspec.structs import replace

from router.backends.aws.jobs.answers import Answered, answered, cost_usd
from router.backends.aws.jobs.collector import Collector, Item
from router.backends.aws.jobs.running import Running
from router.backends.aws.jobs.service import JobService, Told
from router.domain.aws.job import JobStatus
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.deployment import Deployment
from router.domain.errors import BackendError, JournalError, Refused, Returned
from router.domain.events import Event
from router.domain.outcome import PAID_BEFORE, Delta
from router.learning.job_wait import JobWait
from router.ports.clock import Clock
from router.ports.jobs import JobStore, KnownJob, Result
from router.wire.aws.job_records import write_line

_COUNT_EVERY_S = 5.0
_AT_ONCE = 500
"""Lines of output that are taken in and handed out together."""
_CALLS = 8
"""Jobs that the service is asked about at once."""
_UNKNOWN_S = 300.0
"""For how long a job that was submitted may not be known yet to who asks about it."""
_FORBIDDEN = "backend_forbidden"
_WHY = {
    "batch_too_few": "too few requests came for a batch job in time",
    "batch_late": "its batch job is not done, and it must be answered elsewhere to be in time",
    "batch_failed": "its batch job was not done",
    "batch_record_failed": "the batch job has no answer to it",
}


class Waiter:
    """Who waits for the answer to a record."""

    __slots__ = ("answer", "due", "leave_at")

    def __init__(self, due: float | None, leave_at: float | None) -> None:
        self.answer: asyncio.Future[Delta] = asyncio.get_running_loop().create_future()
        self.due, self.leave_at = due, leave_at


class Lane:
    """One deployment with its jobs. `tick` does all that takes time; it must not run twice at once. While it waits for
    the service, `look_out` gives back in time who must leave."""

    def __init__(
        self,
        deployment: Deployment,
        store: JobStore,
        service: JobService,
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        assert deployment.job is not None
        self.deployment = deployment
        self._store, self._service, self._clock, self._emit = store, service, clock, emit
        self._collector = Collector(deployment.job)
        self._pace = JobWait(deployment.job.typical_s)
        self._jobs: dict[str, Running] = {}
        self._where: dict[str, str] = {}
        self._waiters: dict[str, list[Waiter]] = {}
        self._leaving: list[tuple[float, str]] = []
        """A heap: when who waits for a record must leave, if it waits still."""
        self._planned: deque[tuple[KnownJob, Sequence[Item]]] = deque()
        self._calls = asyncio.Semaphore(_CALLS)
        self._quiet_until = self._count_at = 0.0

    def adopt(self, deployment: Deployment) -> None:
        """Take the operator's word on what changed."""
        assert deployment.job is not None
        self.deployment, self._collector.terms = deployment, deployment.job

    def take_up(self, known: KnownJob) -> None:
        """A job of an earlier life."""
        now = self._clock.now()
        job = self._jobs[known.token] = Running(known, now=now)
        job.submitted_at = now - max(self._clock.at() - known.planned_at, 0.0)
        job.status = JobStatus.PLANNED if known.arn is None else JobStatus.SUBMITTED
        job.is_former = True
        self._where |= {key: known.token for key in known.keys if key}

    def join(
        self, key: str, asked: bytes, *, due: float | None, leave_at: float | None, request_class: str = ""
    ) -> Waiter:
        """Wait for the job that has the record, or for one that it will begin with others."""
        waiter = Waiter(due, leave_at)
        self._waiters.setdefault(key, []).append(waiter)
        if (at := self._leave_at(leave_at)) is not None:
            heappush(self._leaving, (at, key))
        if key not in self._where:
            self._collector.add(Item(key, asked, self._clock.now(), due, self._leave_at(leave_at), request_class))
        return waiter

    def leave(self, key: str, waiter: Waiter) -> None:
        """Nobody waits there any more."""
        waiters = self._waiters.get(key, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(key, None)
            self._collector.remove(key)

    def look_out(self) -> None:
        """Give back who must leave, and plan the job of those who can begin one."""
        now = self._clock.now()
        if now >= self._quiet_until:
            look = self._collector.look(self._pace.mostly_s, now=now)
            self._give_back((item.key for item in look.leaves), "batch_too_few")
            if look.begins:
                self._planned.append((self._plan(look.begins), look.begins))
        self._give_back(self._late(now), "batch_late")

    async def tick(self) -> None:
        """See to everything that is due; what goes wrong with one job is raised when the others have been seen to."""
        self.look_out()
        while self._planned:
            await self._begin(*self._planned.popleft())
        if self._clock.now() >= self._count_at:
            self._count(self._clock.now())
        ends = await asyncio.gather(*(self._work(job) for job in self._jobs.values()), return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error

    async def _work(self, job: Running) -> None:
        async with self._calls:
            if job.is_due(now=self._clock.now()):
                await self._see_to(job)
            if job.is_read and job.is_forsaken(now=self._clock.now()):
                await self._settle(job)

    def _count(self, now: float) -> None:
        """Who waits for what: looks at everybody, and so not at every tick."""
        self._count_at = now + _COUNT_EVERY_S
        waiting = Counter(self._where[key] for key in self._waiters if key in self._where)
        for job in self._jobs.values():
            job.seen(waiting[job.known.token], now=now)
        self._emit(self._observed())

    def _leave_at(self, leave_at: float | None) -> float | None:
        return None if leave_at is None else leave_at - self._collector.terms.margin_s

    def _late(self, now: float) -> list[str]:
        """Records in jobs for which it is too late to wait. What is still collected is seen to by the collector."""
        late = []
        while self._leaving and self._leaving[0][0] <= now:
            _, key = heappop(self._leaving)
            if key in self._where and key in self._waiters:
                late.append(key)
        return late

    def _give_back(self, keys: Iterable[str], code: str) -> None:
        """Those who wait for these are told that they must go elsewhere."""
        count = 0
        for key in keys:
            for waiter in self._waiters.pop(key, ()):
                if not waiter.answer.done():
                    waiter.answer.set_exception(Returned(_WHY[code], code=code))
                    count += 1
        if count:
            self._emit(RecordsReturned(self.deployment.name, code, count))

    def _plan(self, items: Sequence[Item]) -> KnownJob:
        token, name = uuid4().hex, self.deployment.name
        prefix = f"{self._collector.terms.s3}/{name}/{token}"
        keys, classes = tuple(item.key for item in items), tuple(item.request_class for item in items)
        self._where |= dict.fromkeys(keys, token)
        return KnownJob(
            token, name, f"{prefix}/records.jsonl", f"{prefix}/out/", keys, self._clock.at(), classes=classes
        )

    async def _begin(self, known: KnownJob, items: Sequence[Item]) -> None:
        """Write the input, write down that the service will be asked, and ask it."""
        now = self._clock.now()
        try:
            body = await asyncio.to_thread(_input, items)
            await self._service.put(self.deployment, known.input_uri, body)
            await self._store.plan(known)
        except (BackendError, JournalError) as error:
            self._quiet_until = now + self._collector.terms.margin_s / 2.0
            for item in items:
                del self._where[item.key]
                if item.key in self._waiters:
                    self._collector.add(item)
            self._emit(self._changed(Running(known, now=now), "", JobStatus.FAILED, error.message))
            return
        job = self._jobs[known.token] = Running(known, now=now)
        self._emit(self._changed(job, "", job.status))
        await self._ask(job)

    async def _see_to(self, job: Running) -> None:
        """Ask for it, ask about it, or have it stopped; the service may not answer."""
        now = self._clock.now()
        try:
            if job.known.arn is None:
                await self._ask(job)
                return
            if job.is_forsaken(now=now) and not job.is_stopping and not job.has_ended:
                await self._stop(job, job.known.arn)
            told = await self._status(job, job.known.arn)
            old = job.looked(told.status, now=now)
            if told.status is not old:
                self._emit(self._changed(job, old, told.status, told.message))
            if job.has_ended:
                await self._end(job)
        except BackendError as error:
            job.failed(now=now)
            self._emit(self._changed(job, job.status, job.status, error.message))

    async def _ask(self, job: Running) -> None:
        """Have the service make it. What may have been asked for before is looked for first; the same token asks for
        the same job in any case."""
        now, known = self._clock.now(), job.known
        try:
            arn = await self._service.find(self.deployment, known) if job.is_former or job.failures else None
            if arn is None and job.is_forsaken(now=now):
                await self._drop(job, "nobody waits for it any more")
                return
            arn = arn or await self._service.submit(self.deployment, known)
        except Refused as error:
            if error.code == _FORBIDDEN and job.is_former:
                raise
            await self._drop(job, error.message)
            return
        except BackendError as error:
            job.failed(now=now)
            self._emit(self._changed(job, job.status, job.status, error.message))
            return
        await self._store.submitted(known.token, arn)
        job.known = replace(known, arn=arn)
        self._emit(self._changed(job, job.looked(JobStatus.SUBMITTED, now=now), job.status))

    async def _stop(self, job: Running, arn: str) -> None:
        """What has ended since it was looked at last, or may not be stopped, is refused: its status will say."""
        with suppress(Refused):
            await self._service.stop(self.deployment, arn)
        job.is_stopping = True

    async def _status(self, job: Running, arn: str) -> Told:
        try:
            return await self._service.status(self.deployment, arn)
        except Refused as error:
            if error.code == _FORBIDDEN or job.age_s(now=self._clock.now()) < _UNKNOWN_S:
                raise
            return Told(JobStatus.FAILED, error.message)

    async def _drop(self, job: Running, why: str) -> None:
        """Nothing comes of it: its records go elsewhere."""
        self._emit(self._changed(job, job.status, JobStatus.FAILED, why))
        await self._forget(job)

    async def _forget(self, job: Running) -> None:
        await self._store.drop(job.known.token)
        self._release(job, "batch_failed")
        del self._jobs[job.known.token]

    def _release(self, job: Running, code: str) -> None:
        """Records of the job that nothing came of are free again, and those who wait for them go elsewhere."""
        token = job.known.token
        keys = [key for key in job.known.keys if self._where.get(key) == token]
        for key in keys:
            del self._where[key]
        self._give_back(keys, code)

    async def _end(self, job: Running) -> None:
        """Read its output once, answer those who wait, and send on those without an answer."""
        if job.status is JobStatus.FAILED:
            await self._forget(job)
            return
        found: list[Answered] = []
        async for line in self._service.lines(self.deployment, job.known):
            found.append(answered(line, job.known.keys))
            if len(found) >= _AT_ONCE:
                await self._hand_out(job, found)
                found = []
        await self._hand_out(job, found)
        await self._store.ended(job.known.token)
        if job.status is JobStatus.COMPLETED:
            self._pace.observe(job.age_s(now=self._clock.now()), now=self._clock.now())
        self._release(job, "batch_failed")
        job.is_read = True

    async def _hand_out(self, job: Running, found: Sequence[Answered]) -> None:
        token = job.known.token
        found = [one for one in found if self._where.get(one.key) == token]
        results = [Result(one.key, one.answer, one.error, one.key in self._waiters) for one in found]
        await self._store.results(token, results)
        failed = []
        for one, result in zip(found, results, strict=True):
            self._where.pop(one.key, None)
            if one.delta is None:
                failed.append(one.key)
                continue
            waiters = self._waiters.pop(one.key, ())
            if waiters and not result.is_taken:
                await self._store.take(one.key, token)
            delta = one.delta
            for waiter in waiters:
                if not waiter.answer.done():
                    waiter.answer.set_result(delta)
                    delta = replace(delta, served_as=PAID_BEFORE)
        self._give_back(failed, "batch_record_failed")

    async def _settle(self, job: Running) -> None:
        """Whoever could still have asked for its answers has had the time: what is left was paid in vain."""
        left = await self._store.untaken(job.known.token)
        del self._jobs[job.known.token]
        if left:
            usd = await asyncio.to_thread(cost_usd, left, self.deployment.price)
            name, token, total = self.deployment.name, job.known.token, sum(usd.values())
            self._emit(AnswersUnused(name, token, len(left), total, tuple(usd.items())))

    def _changed(self, job: Running, old: str, new: str, reason: str = "") -> JobChanged:
        """What is told of it; who waits for what is counted again at the next tick."""
        known, self._count_at = job.known, 0.0
        seconds = job.age_s(now=self._clock.now())
        return JobChanged(self.deployment.name, known.token, str(old), str(new), len(known.keys), seconds, reason)

    def _observed(self) -> JobsObserved:
        now = self._clock.now()
        running = [job for job in self._jobs.values() if not job.is_read]
        counts = Counter(job.status.value for job in running)
        slacks = [w.due - now for waiters in self._waiters.values() for w in waiters if w.due is not None]
        return JobsObserved(
            self.deployment.name,
            len(self._collector),
            self._collector.oldest_s(now=now),
            sum(len(job.known.keys) for job in running),
            tuple(counts.items()),
            max((job.age_s(now=now) for job in running), default=0.0),
            min(slacks, default=None),
        )


def _input(items: Sequence[Item]) -> bytes:
    """All records of a job's input: seconds of work for the largest, so it is done in a thread."""
    return b"".join([write_line(number, item.asked) for number, item in enumerate(items)])
