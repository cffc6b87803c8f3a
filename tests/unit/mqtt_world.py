"""The queue's door and all around it: embedded broker, journal, clock, producers, a dispatcher that does as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import mqtt5

from router.domain.deployment import Deployment
from router.domain.errors import JournalError, Rejected, RouterError
from router.domain.events import Event, IngressEvent
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.doubles.mqtt_broker import Broker, Limits, RawClient
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ports.dispatch import Responder
from router.storage.journal import SqliteJournal

WAIT_S = 60.0
HELLO = b'{"messages":[{"role":"user","content":"hello"}]}'
STREAM = b'{"stream":true,"messages":[{"role":"user","content":"hello"}]}'
WHOLE = b'[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]'
PIECES = (b'[{"index":0,"delta":{"content":"h"}}]', b'[{"index":0,"delta":{"content":"i"}}]')


class Sink:
    """Counts what happened and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[IngressEvent] = []
        self._news = asyncio.Event()

    def emit(self, event: Event) -> None:
        assert isinstance(event, IngressEvent)
        self.events.append(event)
        self._news.set()

    def count(self, what: str, source: str = "mqtt") -> int:
        return sum(event.count for event in self.events if (event.what, event.source) == (what, source))

    async def saw(self, what: str, times: int = 1, source: str = "mqtt") -> None:
        async with asyncio.timeout(WAIT_S):
            while self.count(what, source) < times:
                self._news.clear()
                await self._news.wait()


class Dispatcher:
    """Answers at once, or when `gate` opens; raises what `errors` holds first; remembers every call."""

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.errors: list[RouterError | Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.room = True
        self.held_now = 0
        self.feedbacks: list[tuple[str, float]] = []
        self.arrivals = asyncio.Semaphore(0)

    async def submit(
        self,
        request: Request,
        responder: Responder | None = None,
        *,
        on_call: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        if self.errors and isinstance(self.errors[0], Rejected):
            raise self.errors.pop(0)
        assert on_call is not None
        await on_call()
        self.calls.append(request)
        number = len(self.calls)
        self.arrivals.release()
        receipt = Receipt(f"d-{number}", "small-a", "llama", "p1", 1 + request.attempts_before, 0.001, 0.0002)
        if responder is not None:
            await responder.begin(receipt)
            await responder.delta(Delta(PIECES[0], 1))
            self.arrivals.release()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if responder is not None:
            await responder.delta(Delta(PIECES[1], 1))
        return Reply(request, WHOLE, Usage(3, 2), receipt, created=1_700_000_000)

    async def called(self, times: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            for _ in range(times):
                await self.arrivals.acquire()

    def feedback(self, decision_id: str, quality: float) -> bool:
        self.feedbacks.append((decision_id, quality))
        return decision_id == "d-1"

    def deployments(self) -> tuple[Deployment, ...]:
        return ()

    def classes(self) -> tuple[str, ...]:
        return ()

    def is_ready(self) -> tuple[bool, str]:
        return True, ""

    def has_room(self) -> bool:
        return self.room

    def held(self, source: str) -> int:
        return self.held_now


class Held:
    """A journal whose chosen write waits for `gate`, or fails while `error` is set."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self.hold = ""
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.error: JournalError | None = None

    def __getattr__(self, name: str) -> Any:
        write = getattr(self._journal, name)
        if name != self.hold:
            return write

        async def held(*args: Any, **kwargs: Any) -> Any:
            self.entered.set()
            if self.error is not None:
                raise self.error
            await self.gate.wait()
            return await write(*args, **kwargs)

        return held

    @property
    def backlog(self) -> int:
        return self._journal.backlog


class Clock:
    """Monotonic and wall time that a test moves."""

    def __init__(self) -> None:
        self.now, self.at = 50.0, 1_700_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.now, self.at = self.now + seconds, self.at + seconds


class Producer:
    """A client with one reply topic; keeps PUBACKs and messages apart."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.messages: list[mqtt5.PublishPacket] = []

    def ask(self, request_id: str | None = "r1", body: bytes = HELLO, **options: Any) -> None:
        properties = [] if request_id is None else [("request-id", request_id)]
        properties += options.pop("properties", [])
        options = {"response_topic": "replies/1", "correlation_data": b"c1"} | options
        self.client.publish("router/requests/chat", body, qos=1, user_properties=properties, **options)

    async def get(self, count: int = 1) -> list[mqtt5.PublishPacket]:
        """The next messages, acknowledged."""
        while len(self.messages) < count:
            packet = await self.client.receive()
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.messages.append(packet)
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    async def so_far(self) -> list[mqtt5.PublishPacket]:
        """What the broker has sent until now, acknowledged."""
        self.client.send(mqtt5.PingReqPacket())
        while not isinstance(packet := await self.client.receive(), mqtt5.PingRespPacket):
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.messages.append(packet)
        taken, self.messages = self.messages, []
        return taken

    async def one(self) -> mqtt5.PublishPacket:
        return (await self.get())[0]


class World:
    """Everything of one test."""

    def __init__(self, broker: Broker, journal: SqliteJournal, options: MqttOptions) -> None:
        self.broker, self.sqlite, self.options = broker, journal, options
        self.journal = Held(journal)
        self.dispatch, self.sink, self.clock = Dispatcher(), Sink(), Clock()
        self._runs: list[tuple[MqttIngress, asyncio.Task[None]]] = []
        self._clients: list[RawClient] = []

    def make(self) -> MqttIngress:
        clock = self.clock
        return MqttIngress(
            self.options,
            self.dispatch,
            self.journal,
            self.sink,
            monotonic=lambda: clock.now,
            wall=lambda: clock.at,
            rng=Random(1),
        )

    async def start(self, *, wait: bool = True) -> MqttIngress:
        ingress = self.make()
        sources = {source: self.sink.count("connected", source) for source in ("mqtt", "mqtt_replies")}
        self._runs.append((ingress, asyncio.create_task(ingress.run())))
        if wait:
            for source, before in sources.items():
                await self.sink.saw("connected", before + 1, source)
        return ingress

    async def idle(self) -> None:
        """Until every message taken in is done with."""
        async with asyncio.timeout(WAIT_S):
            while any(ingress.open_requests for ingress, _ in self._runs):
                await asyncio.sleep(0)

    async def kill(self) -> None:
        """End the ingress without grace, as far as a live process can."""
        for ingress, run in self._runs:
            await ingress.stop(0.0)
            await run
        self._runs.clear()

    async def end(self) -> None:
        """Close what a test opened."""
        self.dispatch.gate.set()
        await self.kill()
        for client in self._clients:
            await client.close()
        await self.sqlite.close()

    async def producer(self, client_id: str = "producer", topic: str = "replies/#") -> Producer:
        client = await RawClient.connected(self.broker.port, client_id, clean_start=False, session_expiry_interval=99)
        self._clients.append(client)
        await client.subscribe(topic, "router/dead-letter")
        return Producer(client)


Worlds = Callable[..., Any]


def worlds_in(folder: Path) -> Worlds:
    """Makes a world with these options and its journal in the folder; ends it in order."""

    @asynccontextmanager
    async def make(*, limits: Limits | None = None, **options: Any) -> AsyncIterator[World]:
        async with Broker(limits=limits) as broker:
            journal = SqliteJournal(folder / "journal.db", synchronous="OFF")
            settings: dict[str, Any] = {"url": broker.url, "backoff_min_s": 0.005, "backoff_max_s": 0.01} | options
            world = World(broker, journal, MqttOptions(**settings))
            try:
                yield world
            finally:
                await world.end()

    return make


def fields(packet: mqtt5.PublishPacket) -> dict[str, str]:
    """User properties by name."""
    return dict(packet.user_properties)


def content(packet: mqtt5.PublishPacket) -> tuple[bytes, list[tuple[str, str]], str | None]:
    """What must be identical when an id is answered again."""
    return packet.payload, list(packet.user_properties), packet.content_type


def code(packet: mqtt5.PublishPacket) -> str:
    """The error code of an error reply, which the property and the body agree on."""
    named: str = json.loads(packet.payload)["error"]["code"]
    assert fields(packet)["router-code"] == named
    return named
