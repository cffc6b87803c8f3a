"""The job lanes of a run: the daemon's desk beats on the run's clock, and the run does not end before the jobs have."""

from __future__ import annotations

from typing import Protocol

from router.backends.simulated import Truth
from router.backends.simulated_fleet import FleetSpec
from router.backends.simulated_jobs.backend import SimulatedJobs
from router.domain.events import Event
from router.ports.backend import Backend
from router.ports.clock import Clock
from router.runtime.dispatcher import Dispatcher
from router.runtime.jobs.desk import KIND, JobDesk, booked
from router.sim.jobs.book import JobBook


class Watch(Clock, Protocol):
    """Clock and sink of a run."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...


class JobLanes:
    """All of the lanes of a fleet. `backends` are the dispatcher's: the lanes' own joins them."""

    def __init__(
        self,
        fleet: FleetSpec,
        truth: Truth,
        dispatcher: Dispatcher,
        backends: dict[str, Backend],
        watch: Watch,
        *,
        seed: int,
    ) -> None:
        controller = dispatcher.controller
        emit = booked(controller, watch, watch)
        self._jobs = SimulatedJobs(fleet, truth, watch, emit, dispatcher.deployments, seed=seed)
        backends[KIND] = self._jobs
        self._desk = JobDesk(dispatcher, backends)
        self._watch, self._origin_s = watch, watch.now()
        self.book = JobBook(controller.policy.deployments, lambda: controller.policy.classes)

    def emit(self, event: Event) -> None:
        """One event of the run."""
        self.book.emit(event, self._watch.now() - self._origin_s)

    async def start(self) -> None:
        """Begin to beat."""
        await self._desk.start()

    async def drain(self) -> None:
        """Wait until every job is over and paid; what nobody waits for any more is stopped by its lane."""
        await self._jobs.settled()
        await self._desk.stop(0.0)
        await self._jobs.close()
