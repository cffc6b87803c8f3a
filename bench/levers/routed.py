"""A router in front of the AWS double and a client in front of the router, on loopback and in real seconds."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import aiohttp

from router.domain.events import RequestEnded
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World
from router.runtime.reload import load_to_serve
from router.settings import HttpSettings, LogLevel, LogSettings, Settings
from router.telemetry.sink import Handlers
from router.wiring import House

HAIKU, SONNET = "anthropic.claude-3-5-haiku-20241022-v1:0", "anthropic.claude-3-5-sonnet-20241022-v2:0"
HEAD = "deployments:\n"
BEDROCK = "backend: bedrock, region: us-east-1, url: "
PLACES = ("France", "Chile", "Japan", "Kenya", "Norway", "Peru", "Italy", "Ghana", "Nepal", "Cuba")


class Call(NamedTuple):
    """One request as its sender saw it."""

    status: int
    deployment: str
    first_s: float
    whole_s: float
    text: str


class Ends:
    """What the router booked."""

    name = "ends"

    def __init__(self) -> None:
        self.events: list[RequestEnded] = []

    def handlers(self) -> Handlers:
        return {RequestEnded: self.events.append}

    def flush(self) -> None:
        return


class Routed:
    """A router in front of the double, and a client in front of it."""

    def __init__(self, house: House, http: aiohttp.ClientSession, world: World, ends: Ends) -> None:
        self._house, self._http, self.world, self._ends = house, http, world, ends
        self._url = f"http://127.0.0.1:{house.http.port}/v1/chat/completions"

    async def ask(self, text: str, *, model: str = "auto", stream: bool = True, **more: Any) -> Call:
        """Time to the first piece with text, and to the end."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}
        began, first, heard = time.perf_counter(), None, b""
        async with self._http.post(self._url, json=body) as response:
            async for line in response.content:
                if first is None and (not stream or b'"content":"w' in line):
                    first = time.perf_counter()
                heard += line
            ended = time.perf_counter()
            who = response.headers.get("x-router-deployment", "")
            return Call(response.status, who, (first or ended) - began, ended - began, heard.decode())

    async def many(self, count: int, **more: Any) -> list[Call]:
        """One after another."""
        return [await self.ask(f"Tell me about {PLACES[n % len(PLACES)]}.", **more) for n in range(count)]

    def booked(self) -> list[RequestEnded]:
        """What has ended so far."""
        self._house.sink.drain_all()
        return list(self._ends.events)


@asynccontextmanager
async def routed(world: World, policy: str) -> AsyncIterator[Routed]:
    """A router under this policy, in which `URL` is the double's address."""
    with tempfile.TemporaryDirectory() as scratch:
        async with aws_double(world) as double, aiohttp.ClientSession() as http:
            policies = Path(scratch) / "policies"
            policies.mkdir()
            (policies / "policy.yaml").write_text(policy.replace("URL", double.url))
            log = LogSettings(level=LogLevel.ERROR)
            state = Path(scratch) / "state"
            settings = Settings(policies=policies, state_dir=state, http=HttpSettings(port=0), seed=1, log=log)
            ends, ready = Ends(), asyncio.Event()
            house = House(settings, load_to_serve(policies), subscribers=[ends])
            running = asyncio.create_task(house.run(ready.set))
            await ready.wait()
            one = Routed(house, http, world, ends)
            await one.ask("Warm up the connection.")
            try:
                yield one
            finally:
                house.daemon.stop()
                await running
            assert world.drift == [], world.drift


def bedrock(name: str, target: str, more: str = "", *, tier: str = "small", model: str | None = None) -> str:
    """A deployment of a policy."""
    return f'  - {{name: {name}, model: {model or name}, tier: {tier}, target: "{target}", {BEDROCK}"URL"{more}}}\n'


def priced(**models: tuple[float, float]) -> str:
    rows = ", ".join(f"{name}: {{input: {p[0]}, output: {p[1]}}}" for name, p in models.items())
    return f"prices: {{models: {{{rows}}}}}\n"


def wholes(calls: Sequence[Call]) -> float:
    return median(call.whole_s for call in calls)


def firsts(calls: Sequence[Call]) -> float:
    return median(call.first_s for call in calls)
