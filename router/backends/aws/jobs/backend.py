"""The router's door to batch jobs on Bedrock: a request goes in, its answer comes out hours later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from hashlib import blake2b

from msgspec.structs import replace

from router.backends.aws.jobs.answers import Answered
from router.backends.aws.jobs.lane import Lane
from router.backends.aws.jobs.service import JobService
from router.domain.deployment import Deployment
from router.domain.errors import JournalError, ProtocolError, Refused, RequestError, Returned
from router.domain.events import Event
from router.domain.outcome import PAID_BEFORE, Attempt, Delta
from router.domain.request import Request
from router.ports.clock import Clock
from router.ports.jobs import JobStore, KnownJob
from router.wire.aws.job_records import model_input
from router.wire.openai import read_body

RETENTION_S = 7 * 86_400.0
_PURGE_EVERY_S = 3600.0


class JobsBackend:
    """A lane for each deployment of kind job. Time passes in `tick`, which is called about once a second; the first
    takes up what an earlier life of the process left."""

    def __init__(
        self,
        store: JobStore,
        service: JobService,
        clock: Clock,
        emit: Callable[[Event], None],
        deployments: Callable[[], Iterable[Deployment]],
    ) -> None:
        self._store, self._service, self._clock, self._emit = store, service, clock, emit
        self._deployments = deployments
        self._lanes: dict[str, Lane] = {}
        self._former: dict[str, str] = {}
        self._left: list[KnownJob] = []
        self._answers: list[tuple[str, str]] = []
        """Key and deployment of answers that an earlier life read; both for deployments that are not in force yet."""
        self._starting = asyncio.Lock()
        self._has_started = False
        self._purge_at = 0.0

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Wait for the answer of a batch job; `Returned` where it must be looked for elsewhere."""
        try:
            asked = model_input(read_body(attempt.request.payload), attempt)
        except RequestError as error:
            raise Refused(error.message, code=error.code, param=error.param) from error
        key = record_key(attempt.request)
        try:
            await self.start()
            taken = await self._store.take(key)
        except JournalError as error:
            raise Returned(f"batch jobs cannot be written down: {error.message}", code="batch_failed") from error
        if taken is not None:
            yield _known(key, taken.answer, is_paid=taken.is_paid)
            return
        lane = self._lane(attempt.deployment)
        name = attempt.request_class
        waiter = lane.join(key, asked, due=attempt.due, leave_at=attempt.leave_at, request_class=name)
        try:
            answer = await waiter.answer
        finally:
            lane.leave(key, waiter)
        yield answer

    def home(self, request: Request) -> str | None:
        """The deployment whose job has had this request since an earlier life, if one has."""
        return self._former.get(record_key(request)) if self._former else None

    async def start(self) -> None:
        """Take up what was left: of each deployment once, as soon as it is in force."""
        async with self._starting:
            if not self._has_started:
                self._left = list(await self._store.unfinished())
                self._answers = [(key, name) for key, _, name in await self._store.unsettled()]
                self._has_started = True
        if self._left or self._answers:
            self._take_up({str(d.name): d for d in self._deployments() if d.job is not None})

    def _take_up(self, here: Mapping[str, Deployment]) -> None:
        for known in self._left:
            if known.deployment in here:
                self._lane(here[known.deployment]).take_up(known)
                self._former |= {key: known.deployment for key in known.keys if key}
        self._former |= {key: name for key, name in self._answers if name in here}
        self._left = [known for known in self._left if known.deployment not in here]
        self._answers = [(key, name) for key, name in self._answers if name not in here]

    async def tick(self) -> None:
        """See to all lanes; what goes wrong in one is raised when the others have been seen to."""
        await self.start()
        for deployment in self._deployments():
            if deployment.job is not None:
                self._lane(deployment)
        ends = await asyncio.gather(*(lane.tick() for lane in self._lanes.values()), return_exceptions=True)
        if self._clock.now() >= self._purge_at:
            self._purge_at = self._clock.now() + _PURGE_EVERY_S
            await self._store.purge(before_at=self._clock.at() - RETENTION_S)
        for error in ends:
            if error is not None:
                raise error

    def look_out(self) -> None:
        """Give back who must leave, while a tick waits for AWS."""
        for lane in self._lanes.values():
            lane.look_out()

    async def close(self) -> None:
        """Close the store; who still waits is cancelled by then."""
        await self._store.close()
        await self._service.close()

    def _lane(self, deployment: Deployment) -> Lane:
        lane = self._lanes.get(deployment.name)
        if lane is None:
            lane = self._lanes[deployment.name] = Lane(deployment, self._store, self._service, self._clock, self._emit)
        elif lane.deployment is not deployment:
            lane.adopt(deployment)
        return lane


def on_aws(
    store: JobStore, clock: Clock, emit: Callable[[Event], None], deployments: Callable[[], Iterable[Deployment]]
) -> JobsBackend:
    """Over aioboto3, which is loaded for those who have such deployments only."""
    from router.backends.aws.jobs.aws import AwsJobService

    return JobsBackend(store, AwsJobService(), clock, emit, deployments)


def record_key(request: Request) -> str:
    """What the store knows a record by: whose request it is, and the digest of its body."""
    digest = blake2b(request.payload, digest_size=16).hexdigest()
    return f"{request.tenant}\0{request.id}\0{digest}"


def _known(key: str, answer: bytes, *, is_paid: bool) -> Delta:
    found = Answered.of(key, answer)
    if found.delta is None:
        raise ProtocolError("an answer that was kept cannot be read")
    return replace(found.delta, served_as=PAID_BEFORE) if is_paid else found.delta
