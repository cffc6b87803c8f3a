"""What S3 and Bedrock are to a lane of jobs, in memory and on whatever clock runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import exp
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from router.backends.aws.jobs.service import Told
from router.backends.simulated_events import NS_PER_S, Gate, Refusal
from router.backends.simulated_fleet import DeploymentSpec, FleetSpec
from router.backends.simulated_jobs.course import Course, course
from router.domain.aws.job import ENDED, JobStatus
from router.domain.deployment import Deployment
from router.domain.errors import Refused, Throttled, Unreachable
from router.ports.clock import Clock
from router.ports.jobs import KnownJob

_RETRY_AFTER_S = 1.0
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Answer(Struct, frozen=True, array_like=True):
    """What a record will be answered: it travels as the text of the record, for there is nothing else to say."""

    input_tokens: int
    output_tokens: int
    is_cut: bool


class _Job:
    """A job that was submitted."""

    def __init__(self, found: Course, lines: list[bytes]) -> None:
        self.course, self._lines = found, lines
        self._stopped: float | None = None

    def status(self, now: float) -> JobStatus:
        """How it stands."""
        if self._stopped is not None:
            return JobStatus.STOPPED
        return self.course.end if now >= self.course.ends else JobStatus.IN_PROGRESS

    def stop(self, now: float) -> None:
        """What is answered by now stays."""
        self._stopped = now

    def output(self) -> list[bytes]:
        """Lines of what was answered before it ended."""
        if self._stopped is None and self.course.end is JobStatus.FAILED:
            return []
        until = self.course.ends if self._stopped is None else self._stopped
        return self._lines[: int(len(self._lines) * self.course.share(until))]


class _Site:
    """The service as one deployment meets it."""

    def __init__(self, fleet: FleetSpec, group: DeploymentSpec, seed: str) -> None:
        assert group.job is not None
        self.terms = group.job
        self.events = fleet.disturbances(group.name, group.name)
        self.gate = Gate(self.events, seed=seed, largest=self.terms.max_records)
        self._rng = Random(f"{seed}/jobs")

    def job(self, body: bytes, at_s: float) -> _Job:
        """Its course and its output."""
        terms, rng = self.terms, self._rng
        factor, fails = exp(rng.gauss(0.0, 1.0) * terms.sigma), rng.random() < terms.fail_ratio
        lines = [self._line(line) for line in body.splitlines()]
        work_s = (terms.takes_s + terms.per_record_s * len(lines)) * factor
        return _Job(course(work_s, self.events, at_s=at_s, timeout_s=terms.timeout_s, fails=fails), lines)

    def _line(self, line: bytes) -> bytes:
        """The output to a line of input."""
        record = _decode(line)
        name = record["recordId"]
        if self._rng.random() < self.terms.record_fail_ratio:
            return _encode({"recordId": name, "error": {"errorCode": 500, "errorMessage": "simulated"}})
        asked = record["modelInput"]["messages"][-1]["content"][0]["text"]
        return _encode({"recordId": name, "modelOutput": _converse(msgspec.json.decode(asked, type=Answer))})


class SimulatedJobService:
    """`JobService` of a fleet's deployments of kind job. Time is that of the fleet: seconds of `clock` since it was
    made."""

    def __init__(self, fleet: FleetSpec, clock: Clock, *, seed: int) -> None:
        self._clock, self._origin_s = clock, clock.now()
        groups = [group for group in fleet.deployments if group.job is not None]
        self._sites = {group.name: _Site(fleet, group, f"{seed}/{group.name}") for group in groups}
        self._objects: dict[str, bytes] = {}
        self._jobs: dict[str, _Job] = {}

    async def put(self, deployment: Deployment, uri: str, body: bytes) -> None:
        """Keep an object until its job is submitted. S3 is not what an event befalls."""
        self._objects[uri] = body

    async def submit(self, deployment: Deployment, job: KnownJob) -> str:
        """Begin a job; its token is its ARN."""
        now, site = self._now(), self._sites[deployment.name]
        refusal = site.gate.refusal(len(job.keys), round(now * NS_PER_S))
        if refusal is Refusal.THROTTLED:
            raise Throttled(f"{deployment.name} takes no job now", retry_after_s=_RETRY_AFTER_S)
        if refusal is not None:
            raise Unreachable(f"{deployment.name} is down")
        self._jobs[job.token] = site.job(self._objects.pop(job.input_uri), now)
        return job.token

    async def find(self, deployment: Deployment, job: KnownJob) -> str | None:
        """Whether it was submitted."""
        return job.token if job.token in self._jobs else None

    async def status(self, deployment: Deployment, arn: str) -> Told:
        """How a job stands."""
        self._reach(deployment)
        return Told(self._jobs[arn].status(self._now()))

    async def stop(self, deployment: Deployment, arn: str) -> None:
        """Stop it at once; `Refused` where it has ended."""
        self._reach(deployment)
        job = self._jobs[arn]
        if job.status(self._now()) in ENDED:
            raise Refused("the job has ended")
        job.stop(self._now())

    async def lines(self, deployment: Deployment, job: KnownJob) -> AsyncIterator[bytes]:
        """Its output; it is read once."""
        assert job.arn is not None
        for line in self._jobs[job.arn].output():
            yield line

    async def close(self) -> None:
        """Forget what is under way."""
        self._jobs.clear()

    def _now(self) -> float:
        return self._clock.now() - self._origin_s

    def _reach(self, deployment: Deployment) -> None:
        if self._sites[deployment.name].events.down_until(round(self._now() * NS_PER_S)) is not None:
            raise Unreachable(f"{deployment.name} is down")


def _converse(answer: Answer) -> dict[str, Any]:
    """As Converse answers; the words are a full stop."""
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "."}]}},
        "stopReason": "max_tokens" if answer.is_cut else "end_turn",
        "usage": {"inputTokens": answer.input_tokens, "outputTokens": answer.output_tokens},
    }
