"""The backend that calls simulated servers, on whatever asyncio loop runs: real seconds or virtual ones.

What a model would have answered comes from a `Truth`; when it answers comes from the servers of a fleet. Calls
take no time beyond the server's own: there is no network in between.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from router.backends.simulated_batch import BatchServer
from router.backends.simulated_events import NS_PER_S, Disturbances, Refusal
from router.backends.simulated_fleet import DeploymentSpec, FleetSpec
from router.backends.simulated_server import ContinuousServer
from router.backends.simulated_steps import Batch, Gauge, Job, ServerState, Stage, Work
from router.domain.deployment import Kind
from router.domain.errors import BackendError, ProtocolError, Refused, Throttled, Unreachable
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.request import Request
from router.ports.load import ScrapedLoad
from router.wire.openai import delta_choices, whole_choices

_POLL_NS = NS_PER_S // 10
"""How often a server's telemetry is polled."""
_RETRY_AFTER_S = 1.0


class SimulatedAnswer(Struct, frozen=True):
    """What a model would answer: how many tokens, and the words where somebody will read them."""

    output_tokens: int
    text: str | None = None


class Truth(Protocol):
    """What each model would have answered. The controller never sees it."""

    def answer(self, request: Request, model: str) -> SimulatedAnswer:
        """The answer of `model` to `request`."""
        ...


class SimulatedBackend:
    """`Backend`, `BatchBackend` and `LoadSource` over a fleet of simulated servers.

    `origin_s` is the loop time at which the fleet's clock reads 0 (0.0 on a virtual loop that starts there).
    An answer comes in its first token and then pieces of `piece_tokens`. `on_bill(attempt, usd)` is told what
    each attempt cost when it ends: tokens times price, for a cancelled one too; nothing if the server lost it.
    """

    def __init__(
        self,
        fleet: FleetSpec,
        truth: Truth,
        *,
        origin_s: float,
        seed: int = 0,
        piece_tokens: int = 16,
        on_bill: Callable[[Attempt, float], None] | None = None,
    ) -> None:
        self._truth = truth
        self._on_bill = on_bill
        self._origin_s, self._seed, self._piece_tokens = origin_s, seed, piece_tokens
        self._groups: dict[str, DeploymentSpec] = {}
        self._servers: dict[str, _Station[Job]] = {}
        self._states: dict[str, ContinuousServer] = {}
        self._batches: dict[str, _Station[Batch]] = {}
        self.adopt(fleet)

    def adopt(self, fleet: FleetSpec) -> None:
        """Put up the servers that are new or described anew; the others go on as they are."""
        lag_ns = round(fleet.telemetry_lag_s * NS_PER_S)
        for group in fleet.deployments:
            for name in group.names() if group.kind is not Kind.JOB else ():
                if self._groups.get(name) != group:
                    self._groups[name] = group
                    self._put_up(name, group, fleet.disturbances(group.name, name), lag_ns)

    def _put_up(self, name: str, group: DeploymentSpec, events: Disturbances, lag_ns: int) -> None:
        seed = f"{self._seed}/{name}"
        if group.kind is Kind.BATCH:
            endpoint = BatchServer(group, events, seed=seed)
            self._batches[name] = _Station(name, endpoint, self._origin_s, lag_ns)
            return
        server = ContinuousServer(group, events, seed=seed, piece_tokens=self._piece_tokens)
        self._states[name] = server
        self._servers[name] = _Station(name, server, self._origin_s, lag_ns)

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Stream the answer of the attempt's deployment."""
        if attempt.deployment.kind is Kind.BATCH:
            yield (await self.run_batch((attempt,)))[0]
            return
        station, voice = _find(self._servers, attempt), Voice(attempt, self._truth)
        job = Job(attempt.request.input_tokens, voice.tokens)
        station.enter(job, attempt)
        heard = 0
        try:
            while heard < voice.tokens:
                if job.generated == heard:
                    await station.news(job)
                if job.stage is Stage.LOST and job.generated - heard < self._piece_tokens:
                    raise _broken(attempt, heard if attempt.stream else 0)
                told, heard = heard, job.generated
                if attempt.stream:
                    yield voice.piece(told, heard)
            if not attempt.stream:
                yield voice.whole()
        finally:
            station.leave(job)
            self._bill(attempt, job.stage, job.generated)

    async def run_batch(self, attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        """The answers of one batch, in order, when all of it has ended."""
        station = _find(self._batches, attempts[0])
        voices = [Voice(attempt, self._truth) for attempt in attempts]
        batch = Batch(len(attempts))
        station.enter(batch, attempts[0])
        try:
            await station.news(batch)
            if batch.stage is Stage.LOST:
                raise _broken(attempts[0], 0)
            return tuple(voice.whole() for voice in voices)
        finally:
            station.leave(batch)
            for attempt, voice in zip(attempts, voices, strict=True):
                self._bill(attempt, batch.stage, voice.tokens if batch.stage is Stage.DONE else 0)

    def state(self, deployment: str) -> ServerState:
        """The exact state of a continuous server now: for the clairvoyant, which no router is."""
        return self._states[deployment].state(self._servers[deployment].settle())

    def telemetry(self, deployment: str) -> ScrapedLoad | None:
        """The latest figures polled of a server that have arrived; `None` before the first."""
        station = self._servers.get(deployment) or self._batches[deployment]
        return station.delivered()

    async def poll(self) -> tuple[ScrapedLoad, ...]:
        """`telemetry` of the whole fleet."""
        loads = (self.telemetry(name) for name in (*self._servers, *self._batches))
        return tuple(load for load in loads if load is not None)

    async def close(self) -> None:
        """Stop the servers' alarms; calls under way hear nothing more."""
        for station in self._servers.values():
            station.silence()
        for endpoint in self._batches.values():
            endpoint.silence()

    def _bill(self, attempt: Attempt, stage: Stage, output_tokens: int) -> None:
        if self._on_bill is not None:
            price = attempt.deployment.price
            usd = price.cost_usd(attempt.request.input_tokens, output_tokens)
            self._on_bill(attempt, 0.0 if stage is Stage.LOST else usd)


class Voice:
    """Puts one answer into words: `tokens` of them, which end as `finish` says."""

    def __init__(self, attempt: Attempt, truth: Truth) -> None:
        request = attempt.request
        answer = truth.answer(request, attempt.deployment.model)
        most = request.max_tokens if request.max_tokens is not None else attempt.max_tokens
        self.tokens = max(1, answer.output_tokens)
        self._all = self.tokens
        self.finish = "stop"
        if most is not None and most < self.tokens:
            self.tokens, self.finish = max(1, most), "length"
        self._words = _WORDS.findall(answer.text) if answer.text else []
        self._attempt = attempt

    def piece(self, told: int, generated: int) -> Delta:
        """What was generated after `told` tokens."""
        text = self._text(told, generated)
        last = generated >= self.tokens
        if not (text or last):
            return Delta(tokens=generated - told)
        finish = self.finish if last else None
        return Delta(
            choices=delta_choices(text, role=told == 0, finish_reason=finish),
            tokens=generated - told,
            finish_reason=finish,
            usage=self._usage() if last else None,
        )

    def whole(self) -> Delta:
        """The complete answer."""
        return Delta(
            choices=whole_choices(self._text(0, self.tokens), self.finish),
            tokens=self.tokens,
            finish_reason=self.finish,
            usage=self._usage(),
            whole=True,
        )

    def _text(self, start: int, end: int) -> str:
        spoken = len(self._words)
        return "".join(self._words[spoken * start // self._all : spoken * end // self._all])

    def _usage(self) -> Usage:
        return Usage(self._attempt.request.input_tokens, self.tokens)


_WORDS = re.compile(r"\s*\S+|\s+$")

Given = TypeVar("Given", bound=Work)


class _Server(Protocol[Given]):
    """What both kinds of server can do."""

    def advance(self, now: int) -> list[Given]: ...
    def wake_ns(self) -> int | None: ...
    def arrive(self, work: Given, now: int, /) -> Refusal | None: ...
    def cancel(self, work: Given, now: int, /) -> None: ...
    def gauge(self, now: int) -> Gauge: ...


class _Station(Generic[Given]):
    """A server on the running loop: moves it when its time has come and wakes whoever waits for news."""

    def __init__(self, name: str, server: _Server[Given], origin_s: float, lag_ns: int) -> None:
        self._name = name
        self._server = server
        self._origin_s = origin_s
        self._lag_ns = lag_ns
        self._waiters: dict[Given, asyncio.Future[None]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns: int | None = None
        self._poll_ns = 0
        self._polled: deque[tuple[int, Gauge]] = deque(maxlen=lag_ns // _POLL_NS + 2)

    def enter(self, work: Given, attempt: Attempt) -> None:
        """Give the server something to do; raises a `BackendError` if it refuses."""
        now = self.settle()
        refusal = self._server.arrive(work, now)
        if refusal is not None:
            raise _refused(refusal, attempt)
        self._set_alarm()

    async def news(self, work: Given) -> None:
        """Wait until there is something new about work; what has ended has told all."""
        if work.ended:
            return
        waiter = self._waiters[work] = asyncio.get_running_loop().create_future()
        await waiter

    def leave(self, work: Given) -> None:
        """Cancel what has not ended."""
        self._waiters.pop(work, None)
        if not work.ended:
            self._server.cancel(work, self.settle())
            self._set_alarm()

    def settle(self) -> int:
        """Bring the server to the present, in nanoseconds of the fleet, and tell the news."""
        now = round((asyncio.get_running_loop().time() - self._origin_s) * NS_PER_S)
        kept = self._polled.maxlen or 1
        self._poll_ns = max(self._poll_ns, (now // _POLL_NS - kept) * _POLL_NS)
        while self._poll_ns <= now:
            self._tell(self._server.advance(self._poll_ns))
            self._polled.append((self._poll_ns, self._server.gauge(self._poll_ns)))
            self._poll_ns += _POLL_NS
        self._tell(self._server.advance(now))
        return now

    def delivered(self) -> ScrapedLoad | None:
        """The newest figures that are at least the lag old."""
        now = self.settle()
        for at, gauge in reversed(self._polled):
            if at + self._lag_ns <= now:
                return ScrapedLoad(
                    deployment=self._name,
                    running=gauge.running,
                    waiting=gauge.waiting,
                    kv_ratio=gauge.kv_ratio,
                    observed=self._origin_s + at / NS_PER_S,
                )
        return None

    def silence(self) -> None:
        """Set no alarm any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _tell(self, news: list[Given]) -> None:
        for work in news:
            waiter = self._waiters.pop(work, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _set_alarm(self) -> None:
        wake = self._server.wake_ns()
        if wake == self._alarm_ns:
            return
        self.silence()
        self._alarm_ns, self._alarm = wake, None
        if wake is not None:
            at = self._origin_s + wake / NS_PER_S
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm_ns = None
        self.settle()
        self._set_alarm()


def _find(stations: Mapping[str, _Station[Given]], attempt: Attempt) -> _Station[Given]:
    station = stations.get(attempt.deployment.name)
    if station is None:
        raise Unreachable(f"the simulated fleet has no server {attempt.deployment.name}")
    return station


def _refused(refusal: Refusal, attempt: Attempt) -> BackendError:
    name = attempt.deployment.name
    if refusal is Refusal.DOWN:
        return Unreachable(f"{name} is down")
    if refusal is Refusal.THROTTLED:
        return Throttled(f"{name} is over its rate", retry_after_s=_RETRY_AFTER_S)
    return Refused(f"{name} cannot hold so much at once")


def _broken(attempt: Attempt, told: int) -> BackendError:
    name = attempt.deployment.name
    return ProtocolError(f"{name} broke off") if told else Unreachable(f"{name} went down")
