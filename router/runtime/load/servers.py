"""Asks servers for their own load for as long as the policy wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from random import Random

import structlog

from router.core.controller import Controller
from router.domain.control.servers import ServerAsked, ServerHeard
from router.domain.deployment import DeploymentName, TelemetryTerms
from router.domain.view import ScrapedLoad
from router.ports.clock import Clock
from router.ports.dispatch import EventSink
from router.ports.load import LoadReader
from router.runtime.loops import detail_of
from router.wire.server_metrics import NoLoad, Scrape, ServerLoad

PAUSE_MOST_S = 10.0
"""Longest pause between two tries at a server that does not answer, where the policy has no longer one."""
TOLD_AFTER = 3
"""Failures in a row that are told; fewer are a hiccup."""
_JITTER, _DOUBLINGS = 0.1, 8

_Way = tuple[TelemetryTerms, str | None]
"""How a server is asked, and the file of the authority to trust."""

log = structlog.get_logger("router.load")


class ServerLoads:
    """A service with one task for each way of asking, however many deployments the server stands behind: each of them
    is told its whole load."""

    def __init__(
        self, controller: Controller, reader: LoadReader, clock: Clock, sink: EventSink, *, rng: Random | None = None
    ) -> None:
        self._controller, self._reader, self._clock, self._sink = controller, reader, clock, sink
        self._rng = rng or Random()
        self._is_running = False
        self._asking: dict[_Way, asyncio.Task[None]] = {}
        self._behind: dict[_Way, tuple[DeploymentName, ...]] = {}

    @property
    def asked(self) -> tuple[str, ...]:
        """The addresses that are asked now."""
        return tuple(terms.url for terms, _ in self._asking)

    async def start(self) -> None:
        """Begin with the policy in force."""
        self._is_running = True
        self.follow()

    async def stop(self, grace_s: float) -> None:
        """Ask no more."""
        self._is_running = False
        tasks = tuple(self._asking.values())
        self._asking.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reader.close()

    def follow(self, changed: Collection[str] = ()) -> None:
        """Ask whom the policy in force names, and nobody else; the files `changed` hold something else now."""
        self._reader.forget(changed)
        behind: dict[_Way, tuple[DeploymentName, ...]] = {}
        for deployment in self._controller.policy.deployments:
            if deployment.telemetry is not None:
                way = deployment.telemetry, deployment.address.ca_file
                behind[way] = (*behind.get(way, ()), deployment.name)
        self._behind = behind
        for way in self._asking.keys() - behind.keys():
            self._asking.pop(way).cancel()
        if self._is_running:
            loop = asyncio.get_running_loop()
            for way in behind.keys() - self._asking.keys():
                self._asking[way] = loop.create_task(self._ask_on(way), name=f"load of {way[0].url}")

    async def _ask_on(self, way: _Way) -> None:
        """Ask again and again, not in step with others; a server that fails is asked less and less often."""
        every_s, failures, said = way[0].every_s, 0, ""
        await asyncio.sleep(self._rng.random() * every_s)
        while True:
            sent = self._clock.now()
            try:
                found = await self._ask(way, sent)
            except Exception as error:
                log.error("loop_failed", loop=way[0].url, error=type(error).__name__, detail=detail_of(error))
                found = NoLoad(Scrape.UNREADABLE, type(error).__name__)
            failures = 0 if isinstance(found, ServerLoad) else failures + 1
            said = self._say(way, found, failures, said)
            pause_s = min(every_s * 2 ** min(max(failures - 1, 0), _DOUBLINGS), max(PAUSE_MOST_S, every_s))
            pause_s *= 1.0 + _JITTER * (2.0 * self._rng.random() - 1.0)
            await asyncio.sleep(max(pause_s - (self._clock.now() - sent), 0.0))

    async def _ask(self, way: _Way, sent: float) -> ServerLoad | NoLoad:
        """One question. What was told is as of `sent`: the server may have counted at any time since."""
        at = self._clock.at()
        found = await self._reader.read(*way)
        for name in self._behind.get(way, ()):
            if isinstance(found, NoLoad):
                self._sink.emit(ServerAsked(name, found.result.value, at))
                continue
            self._controller.on_load(ScrapedLoad(name, found.running, found.waiting, found.kv_ratio, sent))
            told = found.running, found.waiting, found.kv_ratio
            self._sink.emit(ServerAsked(name, Scrape.OK.value, at, *told))
        return found

    def _say(self, way: _Way, found: ServerLoad | NoLoad, failures: int, said: str) -> str:
        """Tell once that a server answers, and once that it has not for some time; returns what is told by now."""
        if 0 < failures < TOLD_AFTER:
            return said
        tells = isinstance(found, ServerLoad)
        say = "answers" if tells else "is silent"
        if say != said:
            reason = f"it answers as {found.server}" if isinstance(found, ServerLoad) else found.reason
            for name in self._behind.get(way, ()):
                self._sink.emit(ServerHeard(name, tells, reason))
        return say
