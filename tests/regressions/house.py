"""A dispatcher over a scripted backend on the virtual clock: what the regression tests are played on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.core.fleet import Member
from router.domain.deployment import Address, BatchProfile, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import RouterError
from router.domain.events import Event
from router.domain.outcome import Attempt, Delta, Receipt, Reply, Usage
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import RequestClass
from router.policy.policy import Bounds, Policy
from router.runtime.dispatcher import Dispatcher
from router.sim.clock import run_virtual
from router.wire.openai import delta_choices, whole_choices

Answer = Callable[[Attempt], AsyncGenerator[Delta, None]]
RunBatch = Callable[[tuple[Attempt, ...]], Awaitable[tuple[Delta, ...]]]
WHOLE = Delta(whole_choices("x", "stop"), 5, "stop", Usage(10, 5), whole=True)
STEP_S = 0.0125
"""Gap between the tokens of a healthy answer, near what the router expects of a small model it does not know."""


class Estimator:
    """Small is adequate for half, large for nearly all."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


class LoopClock:
    """The clock of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    at = now

    def stopwatch(self) -> float:
        return 0.0


class Scripted:
    """A backend whose behaviour is a function by deployment name, and one function for batches."""

    def __init__(self) -> None:
        self.scripts: dict[str, Answer] = {}
        self.batch: RunBatch | None = None
        self.calls: list[str] = []
        self.open_now = 0

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        self.calls.append(attempt.deployment.name)
        self.open_now += 1
        try:
            async for delta in self.scripts.get(attempt.deployment.name, well)(attempt):
                yield delta
        finally:
            self.open_now -= 1

    async def run_batch(self, attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        assert self.batch is not None
        return await self.batch(attempts)

    async def close(self) -> None:
        pass


class Reader:
    """A streaming client: what it saw, in order, and how long it takes over each piece."""

    def __init__(self, piece_s: float = 0.0) -> None:
        self.begun: list[str] = []
        self.pieces: list[bytes] = []
        self.finished: list[str] = []
        self._piece_s = piece_s

    async def begin(self, receipt: Receipt) -> None:
        self.begun.append(receipt.deployment)

    async def delta(self, delta: Delta) -> None:
        self.pieces.append(delta.choices)
        if delta.finish_reason:
            self.finished.append(delta.finish_reason)
        if self._piece_s:
            await asyncio.sleep(self._piece_s)

    def text(self) -> str:
        """The pieces as one string."""
        return b"".join(self.pieces).decode()


class House:
    """A dispatcher with its scripted backend and the events it told."""

    def __init__(
        self, *classes: RequestClass, deployments: tuple[Deployment, ...] = (), bounds: Bounds | None = None
    ) -> None:
        self.backend = Scripted()
        self.events: list[Event] = []
        self.classes = classes or (RequestClass("all"),)
        self.listed = deployments or (deployment("small"), deployment("large", Tier.LARGE))
        self.bounds = bounds or Bounds()
        policy = Policy("p1", self.classes, self.listed, self.bounds)
        self.controller = Controller(policy, Estimator(), rng=Random(0))
        self.dispatcher = Dispatcher(self.controller, {"scripted": self.backend}, LoopClock(), self)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        """Events of one kind."""
        return [e for e in self.events if type(e) is kind]

    def only(self, kind: type[Any]) -> Any:
        """The one event of a kind."""
        (event,) = self.of(kind)
        return event

    def member(self, name: str) -> Member:
        """What the controller knows of a deployment."""
        return self.controller.fleet.members[DeploymentName(name)]

    def request(self, name: str = "r", *, deadline_s: float | None = None, **fields: Any) -> Request:
        """A short prompt that arrives now."""
        now = asyncio.get_running_loop().time()
        deadline = None if deadline_s is None else now + deadline_s
        fields.setdefault("input_tokens", 10)
        return Request(id=RequestId(name), arrived=now, at=now, prompt=Prompt("hello"), deadline=deadline, **fields)

    async def ask(self, name: str = "r", **fields: Any) -> Reply:
        """Submit one request."""
        responder, on_call = fields.pop("responder", None), fields.pop("on_call", None)
        return await self.dispatcher.submit(self.request(name, **fields), responder, on_call=on_call)

    async def attempt(self, name: str = "r", **fields: Any) -> Reply | BaseException:
        """The reply, or what was raised instead of it."""
        try:
            return await self.ask(name, **fields)
        except Exception as error:
            return error

    def going(self, name: str = "r", **fields: Any) -> asyncio.Task[Reply]:
        """Submit one request and go on."""
        return asyncio.ensure_future(self.ask(name, **fields))

    async def beat(self, seconds: float, every_s: float = 0.1) -> None:
        """Let time pass with the heart beating."""
        for _ in range(round(seconds / every_s)):
            await asyncio.sleep(every_s)
            self.dispatcher.tick()

    async def traffic(self, seconds: float, per_s: float, **fields: Any) -> Counter[str]:
        """Ask at a steady rate with the heart beating; who was called how often."""
        before, tasks = len(self.backend.calls), []
        for i in range(round(seconds * per_s)):
            tasks.append(self.going(f"{i}", **fields))
            await self.beat(1.0 / per_s, 1.0 / per_s)
        await asyncio.gather(*tasks, return_exceptions=True)
        return Counter(self.backend.calls[before:])

    def in_flight(self) -> int:
        """Permits held."""
        return sum(m.account.in_flight for m in self.controller.fleet.members.values())


def deployment(name: str, tier: Tier = Tier.SMALL, **fields: Any) -> Deployment:
    """A deployment of the scripted backend with a model of its own."""
    return Deployment(
        name=DeploymentName(name),
        group=name,
        model=f"model-{name}",
        tier=tier,
        kind=fields.pop("kind", Kind.CONTINUOUS),
        address=fields.pop("address", Address("scripted", name)),
        price=fields.pop("price", Price(1.0, 1.0)),
        **fields,
    )


def batching(run: RunBatch, *classes: RequestClass, **fields: Any) -> House:
    """A house with one batch endpoint `b` that runs batches so."""
    fields.setdefault("batch", BatchProfile(0.030, 0.002))
    endpoint = deployment("b", kind=Kind.BATCH, max_items=fields.pop("max_items", 128), **fields)
    house = House(*classes, deployments=(endpoint,))
    house.backend.batch = run
    return house


async def well(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """Three tokens, a tenth of a second apart."""
    for i in range(3):
        await asyncio.sleep(0.1)
        last = i == 2
        finish = "stop" if last else None
        usage = Usage(10, 3) if last else None
        yield Delta(delta_choices(f"w{i} ", role=i == 0, finish_reason=finish), 1, finish, usage)


async def never(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """No token, ever."""
    await asyncio.sleep(1e6)
    yield Delta()


def speaking(word: str, *, first_s: float, tokens: int = 5, gap_s: float = STEP_S, close_s: float = 0.0) -> Answer:
    """The first token after `first_s`, the others `gap_s` apart; a connection that takes `close_s` to close."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        try:
            await asyncio.sleep(first_s)
            for i in range(tokens):
                if i:
                    await asyncio.sleep(gap_s)
                yield Delta(delta_choices(f"{word}{i} ", role=i == 0), 1)
            yield Delta(delta_choices("", finish_reason="stop"), 0, "stop", Usage(10, tokens))
        finally:
            if close_s:
                await asyncio.sleep(close_s)

    return script


def failing(error: BaseException, *, after_s: float = 0.0, tokens: int = 0) -> Answer:
    """Raises after a while, perhaps after some tokens."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(after_s)
        for _ in range(tokens):
            yield Delta(delta_choices("x"), 1)
        raise error

    return script


def failing_once(error: BaseException) -> Answer:
    """Raises at the first call and does well at every later one."""
    left = [error]

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        if left:
            raise left.pop()
        async for delta in well(attempt):
            yield delta

    return script


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """End what still runs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def code_of(task: asyncio.Task[Reply]) -> str:
    """`ok`, `waiting`, or the code of the error."""
    if not task.done():
        return "waiting"
    error = task.exception()
    if error is None:
        return "ok"
    return error.code if isinstance(error, RouterError) else type(error).__name__


def virtually(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Play a scene on a fresh virtual clock."""
    run_virtual(scene())
