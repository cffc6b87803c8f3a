"""The router's own dispatcher in front of the AWS double's Bedrock in virtual time: no sockets, no SDK, no waiting.

The double's service is called with the arguments that would go out by the SDK, so that its quota, prompt cache, speed
and bill hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from random import Random
from typing import Any, TypeVar

import msgspec

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.deployment import Deployment, Tier
from router.domain.errors import ProtocolError, Throttled
from router.domain.events import Event
from router.domain.outcome import Attempt, Delta, Reply
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.doubles.aws.call import AwsError, Call
from router.doubles.aws.models import Model
from router.doubles.aws.runtime.service import BedrockRuntime
from router.doubles.aws.world import ACCOUNT, World
from router.policy.policy import Bounds, Policy
from router.routing.profile import Profile
from router.runtime.dispatcher import Dispatcher
from router.wire.aws.exchange import exchange_for
from router.wire.openai import Envelope, read_request

_TICK_S = 0.1
Kind = TypeVar("Kind", bound=Event)
Turns = Sequence[tuple[str, str]]
"""Messages as (role, text)."""


class VirtualBedrock:
    """A backend that streams from the double's service."""

    def __init__(self, world: World) -> None:
        self._world, self._service = world, BedrockRuntime(world)
        self.serving = self.most = 0
        """Calls that have been taken and not ended: now, and the most there ever were."""

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer."""
        exchange = exchange_for(attempt)
        region = attempt.deployment.address.region or "us-east-1"
        call = Call("bedrock-runtime", "ConverseStream", exchange.arguments(), region, ACCOUNT)
        self._world.calls.append(call)
        try:
            response = await self._service.converse_stream(call)
        except AwsError as error:
            kind = Throttled if error.code == "ThrottlingException" else ProtocolError
            raise kind(error.message) from error
        self.serving += 1
        self.most = max(self.most, self.serving)
        try:
            yield Delta()
            async with aclosing(response["stream"]) as events:
                async for name, body in events:
                    for delta in exchange.read({name: body}, response):
                        yield delta
        finally:
            self.serving -= 1

    async def close(self) -> None:
        """Nothing to free."""


class _Adequate:
    """Every model is adequate."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.0, "chat", {}, {Tier.SMALL: 1.0, Tier.LARGE: 1.0})


class Room:
    """A router and one AWS, on the virtual clock of the running loop."""

    def __init__(
        self,
        models: Sequence[Model],
        deployments: tuple[Deployment, ...],
        *classes: RequestClass,
        profile: Profile | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.now = self.at = loop.time
        self.stopwatch = time.perf_counter
        self.world = World(models={m.id: m for m in models}, now=loop.time, at=loop.time)
        self.events: list[Event] = []
        self.backend = VirtualBedrock(self.world)
        policy = Policy("bench", classes, deployments, bounds=Bounds(limit_max=10_000))
        self.controller = Controller(policy, _Adequate(), rng=Random(0), profile=profile)
        self.dispatcher = Dispatcher(self.controller, {"bedrock": self.backend}, self, self)
        self._count = 0
        self._heart = asyncio.ensure_future(self._beat())

    def emit(self, event: Event) -> None:
        """Keep what happened."""
        self.events.append(event)

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        """The events of a kind."""
        return (e for e in self.events if isinstance(e, kind))

    async def ask(self, turns: Turns, **body: Any) -> Reply:
        """Send a conversation; `request_class` and fields of a chat completion by name."""
        self._count += 1
        name = body.pop("request_class", None)
        messages = [{"role": role, "content": text} for role, text in turns]
        payload = msgspec.json.encode({"messages": messages, "stream": True, **body})
        envelope = Envelope(f"r{self._count}", self.now(), self.at(), "bench", request_class=name)
        return await self.dispatcher.submit(read_request(payload, envelope))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self.dispatcher.tick()


def text(name: str, words: int) -> str:
    """So many words, which nobody else has; the double counts a word as a token, the router about 1.7."""
    return " ".join([name, *(["words"] * (words - 1))])
