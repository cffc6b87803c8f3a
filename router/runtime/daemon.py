"""Starts everything in order, waits for the word to stop, and stops everything in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from router.runtime.dispatcher import Dispatcher
from router.runtime.loops import Loops

log = structlog.get_logger("router.daemon")


class Service(Protocol):
    """Something that is started and stopped with the daemon."""

    async def start(self) -> None:
        """Ready when this returns."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, end what is under way within the grace, free everything."""
        ...


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
        stops = [service.stop(self._grace_s) for service in reversed(started)]
        await asyncio.gather(*stops, return_exceptions=True)
        finished = await self._dispatcher.drain(self._grace_s)
        await self._loops.stop()
        for close in self._closers:
            try:
                await close()
            except Exception as error:
                log.error("close_failed", error=type(error).__name__, detail=str(error))
        log.info("stopped", finished=finished)
