"""The daemon's own job lanes over simulated jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

import msgspec
from msgspec.structs import replace

from router.backends.aws.jobs.backend import JobsBackend
from router.backends.simulated import Truth, Voice
from router.backends.simulated_fleet import FleetSpec
from router.backends.simulated_jobs.service import Answer, SimulatedJobService
from router.backends.simulated_jobs.store import MemoryJobStore
from router.domain.deployment import Deployment
from router.domain.events import Event
from router.domain.outcome import Attempt, Delta
from router.ports.clock import Clock

_encode = msgspec.json.Encoder().encode


class SimulatedJobs(JobsBackend):
    """A workload has no words: what is written into a record is how long its answer will be."""

    def __init__(
        self,
        fleet: FleetSpec,
        truth: Truth,
        clock: Clock,
        emit: Callable[[Event], None],
        deployments: Callable[[], Iterable[Deployment]],
        *,
        seed: int = 0,
    ) -> None:
        self._truth, self._memory = truth, MemoryJobStore()
        super().__init__(self._memory, SimulatedJobService(fleet, clock, seed=seed), clock, emit, deployments)

    async def settled(self) -> None:
        """Wait until every job is over and its bill known."""
        await self._memory.settled.wait()

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Wait for the answer of a batch job."""
        voice, request = Voice(attempt, self._truth), attempt.request
        answer = _encode(Answer(request.input_tokens, voice.tokens, voice.finish == "length"))
        asked = {"model": attempt.deployment.model, "messages": [{"role": "user", "content": answer.decode()}]}
        spoken = replace(attempt, request=replace(request, payload=_encode(asked)))
        async with aclosing(super().open(spoken)) as stream:
            async for delta in stream:
                yield delta
