"""Starts everything in order, waits for the word to stop, and stops everything in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Protocol

import structlog

from router.runtime.dispatcher import Dispatcher
from router.runtime.loops import Loops

log = structlog.get_logger("router.daemon")

_LATE_S = 5.0
"""How much longer than the grace a service is waited for: a router that was told to end must end."""


class Service(Protocol):
    """Something that is started and stopped with the daemon."""

    async def start(self) -> None:
        """Ready when this returns."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, end what is under way within the grace, free everything."""
        ...


class Background:
    """A service that is one long coroutine. `on_end` is told when it ends by itself."""

    def __init__(
        self,
        run: Callable[[], Coroutine[None, None, None]],
        stop: Callable[[float], Awaitable[None]],
        *,
        name: str,
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self._run = run
        self._stop = stop
        self._name = name
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Set it going."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._on_end(task.exception())

    async def stop(self, grace_s: float) -> None:
        """Ask it to stop, and wait until it has."""
        await self._stop(grace_s)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


class Daemon:
    """The router as a process: ingresses in `services`, heartbeats in `loops`, `closers` last."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        services: Sequence[Service],
        loops: Loops,
        closers: Sequence[Callable[[], Awaitable[None]]],
        *,
        grace_s: float = 20.0,
    ) -> None:
        self._dispatcher = dispatcher
        self._services = services
        self._loops = loops
        self._closers = closers
        self._grace_s = grace_s
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask for an orderly end."""
        self._stop.set()

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Run until `stop`, SIGTERM or SIGINT; a second signal is not needed, the grace ends by itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, ValueError):
                loop.add_signal_handler(number, self.stop)
        started: list[Service] = []
        try:
            self._loops.start()
            for service in self._services:
                await service.start()
                started.append(service)
            log.info("started", policy=self._dispatcher.controller.policy.digest)
            if ready is not None:
                ready()
            await self._stop.wait()
            log.info("stopping", in_flight=self._dispatcher.in_flight)
        finally:
            await self._shut_down(started)

    async def _shut_down(self, started: list[Service]) -> None:
        self._dispatcher.turn_away()
        await self._stop_services(started)
        finished = await self._dispatcher.drain(self._grace_s)
        await self._loops.stop()
        for close in self._closers:
            try:
                await close()
            except Exception as error:
                log.error("close_failed", error=type(error).__name__, detail=str(error))
        log.info("stopped", finished=finished)

    async def _stop_services(self, started: list[Service]) -> None:
        """All at once. One that fails, or does not come to its end, keeps no other from its own."""
        stops = [
            asyncio.create_task(service.stop(self._grace_s), name=type(service).__name__)
            for service in reversed(started)
        ]
        if not stops:
            return
        ended, late = await asyncio.wait(stops, timeout=self._grace_s + _LATE_S)
        for stop in late:
            log.error("stop_hangs", service=stop.get_name())
        for stop in ended:
            if (error := stop.exception()) is not None:
                log.error("stop_failed", service=stop.get_name(), error=type(error).__name__, detail=str(error))
