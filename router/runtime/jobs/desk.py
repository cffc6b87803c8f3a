"""The heartbeat of batch jobs, as a service of the daemon: takes up what was left before any door opens.

A beat whose calls of AWS take long is waited for by the next one; those who must leave a job are given back all the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

import structlog

from router.core.controller import Controller
from router.domain.control.jobs import AnswersUnused
from router.domain.events import Event
from router.domain.request import Request
from router.ports.backend import Backend
from router.ports.clock import Clock
from router.ports.dispatch import EventSink
from router.runtime.dispatcher import Dispatcher
from router.runtime.jobs.homes import HoldsRequests
from router.runtime.loops import detail_of

EVERY_S = 1.0
KIND = "bedrock_jobs"

log = structlog.get_logger("router.jobs")


class JobDesk:
    """Beats once a second from when the policy has batch jobs; costs nothing where it never has any."""

    def __init__(self, dispatcher: Dispatcher, backends: Mapping[str, Backend]) -> None:
        self._dispatcher, self._backends = dispatcher, backends
        self._goes_on = False
        dispatcher.homes.ask = self.home
        self._task: asyncio.Task[None] | None = None
        self._tick: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was left, and begin to beat."""
        if self._is_needed():
            await self._jobs().start()
        self._task = asyncio.get_running_loop().create_task(self._beat(), name="batch jobs")

    async def stop(self, grace_s: float) -> None:
        """Stop at once: what is under way goes on at AWS, and is taken up by the next life."""
        going = [task for task in (self._task, self._tick) if task is not None]
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    def home(self, request: Request) -> str | None:
        """The deployment whose job has had this request since an earlier life, if one has."""
        return self._jobs().home(request) if self._is_needed() else None

    def _is_needed(self) -> bool:
        self._goes_on = self._goes_on or self._dispatcher.controller.fleet.has_jobs
        return self._goes_on

    def _jobs(self) -> HoldsRequests:
        return cast(HoldsRequests, self._backends[KIND])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if not self._is_needed():
                continue
            try:
                self._see_to(self._jobs())
            except Exception as error:
                _complain(error)

    def _see_to(self, jobs: HoldsRequests) -> None:
        if self._tick is not None and not self._tick.done():
            jobs.look_out()
            return
        self._tick = asyncio.get_running_loop().create_task(_ticked(jobs), name="batch jobs: tick")


async def _ticked(jobs: HoldsRequests) -> None:
    try:
        await jobs.tick()
    except Exception as error:
        _complain(error)


def _complain(error: Exception) -> None:
    log.error("batch_jobs_failed", error=type(error).__name__, detail=detail_of(error))


def booked(controller: Controller, clock: Clock, sink: EventSink) -> Callable[[Event], None]:
    """Tells the sink, and books what was paid for answers that came too late on the day's budgets."""

    def tell(event: Event) -> None:
        if isinstance(event, AnswersUnused):
            for name, usd in event.by_class:
                controller.spending.waste(name, usd, at=clock.at())
        sink.emit(event)

    return tell
