"""A running HTTP ingress with a router behind it that does as it is told, for the tests of the front door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.events import Event, IngressEvent
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.ingress.http import HttpIngress, HttpOptions
from router.ports.dispatch import Responder
from router.wire.openai import assemble, delta_choices, whole_choices

RECEIPT = Receipt("d1", "small-0", "llama", "p0", 1, 0.00042, 0.0015, "chat", 0.25, 0.2, 0.01)
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
PIECES = ("", "Hel", "lo")

Behaviour = Callable[[Request, Responder | None], Awaitable[Reply]]


def reply_to(request: Request, choices: bytes = whole_choices("Hello", "stop")) -> Reply:
    return Reply(request, choices, Usage(7, 2, 3), RECEIPT, 1_700_000_000)


async def answer(request: Request, responder: Responder | None) -> Reply:
    """Say "Hello", in pieces where a responder waits for them."""
    if responder is None:
        return reply_to(request)
    deltas = [Delta(delta_choices(text, role=not text), tokens=1) for text in PIECES]
    deltas.append(Delta(delta_choices(finish_reason="stop"), finish_reason="stop"))
    await responder.begin(RECEIPT)
    for delta in deltas:
        await responder.delta(delta)
    return reply_to(request, assemble(deltas))


def raising(error: Exception) -> Behaviour:
    async def fail(request: Request, responder: Responder | None) -> Reply:
        raise error

    return fail


class FakeRouter:
    """A `Dispatch` and an `EventSink`."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = answer
        self.requests: list[Request] = []
        self.events: list[Event] = []
        self.cancelled = asyncio.Event()
        self.taught: list[tuple[str, float]] = []
        self.ready = (True, "")

    async def submit(self, request: Request, responder: Responder | None = None) -> Reply:
        self.requests.append(request)
        try:
            return await self.behaviour(request, responder)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def feedback(self, decision_id: str, quality: float) -> bool:
        self.taught.append((decision_id, quality))
        return decision_id == "d1"

    def deployments(self) -> tuple[Deployment, ...]:
        name = DeploymentName("small-0")
        address = Address("simulated", "llama")
        return (Deployment(name, "small", "llama", Tier.SMALL, Kind.CONTINUOUS, address, Price(0, 0)),)

    def classes(self) -> tuple[str, ...]:
        return ("chat",)

    def is_ready(self) -> tuple[bool, str]:
        return self.ready

    def has_room(self) -> bool:
        return True

    def held(self, source: str) -> int:
        return 0

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def ingress_events(self) -> list[tuple[str, str]]:
        return [(e.what, e.detail) for e in self.events if isinstance(e, IngressEvent)]


class Door:
    """A running ingress, its fake router and a client."""

    def __init__(self, ingress: HttpIngress, router: FakeRouter, client: aiohttp.ClientSession) -> None:
        self.ingress, self.router, self.client = ingress, router, client
        self.url = f"http://127.0.0.1:{ingress.port}"

    async def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(self.url + path, data=data, headers=named) as response:
            return response.status, response.headers, await response.read()

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Any]:
        async with self.client.get(self.url + path, headers=headers) as response:
            return response.status, response.headers, await response.read()


@asynccontextmanager
async def open_door(**options: Any) -> AsyncIterator[Door]:
    """A door on a free port for the length of a block."""
    router = FakeRouter()
    ingress = HttpIngress(
        HttpOptions(port=0, **options),
        router,
        router,
        lambda: (b"router_up 1\n", "text/plain; version=0.0.4"),
        decisions={"d1": b'{"id":"d1"}'}.get,
    )
    await ingress.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield Door(ingress, router, client)
    finally:
        await ingress.stop(grace_s=0)
