"""The way out: a connection of its own that publishes replies, pieces of streams, dead letters and one status.

Apart from the one that takes requests in, because that one stops reading under load, and the broker's PUBACKs
must come in all the same. It keeps no session: what is not acknowledged is published again from here, and after
a crash from the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from router.domain.errors import RouterError
from router.domain.events import IngressEvent
from router.ingress.mqtt_client import Backoff, Disconnected, MqttConnection
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_reader import SOURCE
from router.ports.journal import Asker, Published
from router.wire.mqtt import dead_letter_properties
from router.wire.mqtt_packet import Publish, pack_properties

Emit = Callable[[IngressEvent], None]

NO_SUBSCRIBERS = 0x10
FAILURE = 0x80
QUOTA_EXCEEDED = 0x97
BLAMES_PACKET = frozenset((0x81, 0x82, 0x87, 0x90, 0x95, 0x99))
"""DISCONNECT reasons that one publish may have caused: malformed, protocol error, not authorized, topic name
invalid, packet too large, payload format invalid."""
STRIKES = 3
"""A publish that was under way at so many such disconnections, the last times alone, is the cause."""
HEADROOM_BYTES = 64
"""Fixed header, lengths and content type of a packet beyond its strings."""
CONNECTION = "mqtt_replies"
"""What this connection is called in events; everything else here happened at the door `mqtt`."""


class Refused(Exception):
    """The broker will not take this publish, now or later."""


class TooLarge(Refused):
    """It is over the broker's Maximum Packet Size."""


class Replies:
    """Publishes until the broker has acknowledged, over as many connections as it takes."""

    def __init__(self, options: MqttOptions, emit: Emit, wall: Callable[[], float], rng: Random) -> None:
        self._options, self._emit, self._wall, self._rng = options, emit, wall, rng
        self._connection: MqttConnection | None = None
        self._up = asyncio.Event()
        self._suspects = asyncio.Lock()
        self.on_connect: list[Callable[[], None]] = []
        """Told at every connection."""
        self._listeners: dict[str, Callable[[Publish], None]] = {}

    def listen(self, topic: str, take: Callable[[Publish], None]) -> None:
        """Give what comes on a topic to whoever subscribes to it here."""
        self._listeners[topic] = take

    async def run(self) -> None:
        """Stay connected until cancelled."""
        backoff = Backoff(self._options, self._rng)
        while True:
            name = f"{self._options.client_id}-replies"
            connection = MqttConnection(self._options, name, on_message=self._take)
            try:
                await connection.open()
                self._connection = connection
                self._up.set()
                self._event("connected", source=CONNECTION)
                for tell in self.on_connect:
                    tell()
                reason = await asyncio.shield(connection.closed)
            except Disconnected as error:
                reason = error
            finally:
                lasted_s = connection.lasted_s
                self._connection = None
                self._up.clear()
                await connection.close()
            self._event("disconnected", reason.detail, source=CONNECTION)
            await asyncio.sleep(backoff.wait_s(lasted_s=lasted_s))

    def _take(self, message: Publish) -> None:
        if self._connection is not None:
            self._connection.ack(message)
        if message.topic in self._listeners:
            self._listeners[message.topic](message)

    @property
    def connection(self) -> MqttConnection | None:
        """The connection that is up, if one is."""
        return self._connection

    async def send(self, asker: Asker, published: Published) -> None:
        """Publish one reply to one asker; returns when the broker has it. `Refused` if it never will."""
        properties = pack_properties(published.content_type, asker.correlation_data, published.properties)
        await self._publish(asker.response_topic, published.payload, properties)

    def post(self, asker: Asker, published: Published) -> asyncio.Future[int | None] | None:
        """Publish once, now; `None` if there is no connection. The future is that of `MqttConnection.publish`."""
        if self._connection is None:
            return None
        properties = pack_properties(published.content_type, asker.correlation_data, published.properties)
        return self._connection.publish(asker.response_topic, published.payload, properties)

    async def keep(self, topic: str, payload: bytes) -> None:
        """Publish JSON as the retained message of a topic; returns when the broker has it. `Refused` as for `send`."""
        await self._publish(topic, payload, pack_properties("application/json", None, ()), retain=True)

    async def dead_letter(self, message: Publish, error: RouterError) -> None:
        """Put a message aside with the reason; returns when the broker has it, or will not have it."""
        properties = pack_properties(
            "application/octet-stream", message.correlation_data, dead_letter_properties(message, error)
        )
        self._event("dead_letter", error.code)
        try:
            await self._publish(self._options.dead_letter_topic, message.payload, properties)
        except Refused as refusal:
            self._event("refused", f"dead letter: {refusal}")

    async def _publish(self, topic: str, payload: bytes, properties: bytes, *, retain: bool = False) -> None:
        strikes = 0
        while True:
            if strikes == 0:
                code, blamed = await self._try(topic, payload, properties, retain)
            else:
                async with self._suspects:
                    code, blamed = await self._try(topic, payload, properties, retain)
            strikes += blamed
            if code is None and strikes < STRIKES:
                continue
            if code is None:
                raise Refused("the broker ends the connection over it")
            if code == NO_SUBSCRIBERS and not retain:
                self._event("client_gone")
            elif code == QUOTA_EXCEEDED:
                await asyncio.sleep(self._options.backoff_max_s * self._rng.uniform(0.02, 0.04))
                continue
            elif code >= FAILURE:
                raise Refused(f"reason code 0x{code:02x}")
            return

    async def _try(self, topic: str, payload: bytes, properties: bytes, retain: bool) -> tuple[int | None, bool]:
        """One publish: the reason code, or `None` and whether the broker gave a reason that may be this packet."""
        while (connection := self._connection) is None:
            await self._up.wait()
        size = len(topic.encode()) + len(payload) + len(properties) + HEADROOM_BYTES
        if connection.max_packet_bytes is not None and size > connection.max_packet_bytes:
            raise TooLarge(f"{size} bytes are more than the broker takes ({connection.max_packet_bytes})")
        if retain and not connection.may_retain:
            raise Refused("the broker keeps no retained messages")
        code = await connection.publish(topic, payload, properties, retain)
        if code is not None:
            return code, False
        await asyncio.sleep(0)  # `run` must get its turn to see that the connection is gone
        return None, connection.closed.done() and connection.closed.result().code in BLAMES_PACKET

    def _event(self, what: str, detail: str = "", *, source: str = SOURCE) -> None:
        self._emit(IngressEvent(source=source, what=what, detail=detail, at=self._wall()))


class Status:
    """One retained message that says how things stand: published at every connection and every change, the newest
    always last. After the broker has refused it, the next change is the next try."""

    def __init__(
        self, replies: Replies, topic: str, page: Callable[[], bytes], event: Callable[[str, str], None]
    ) -> None:
        self._replies, self._topic, self._page, self._event = replies, topic, page, event
        self._due = asyncio.Event()
        self._is_refused = False
        replies.on_connect.append(self._on_connect)

    def changed(self) -> None:
        """The page says something else now."""
        self._is_refused = False
        self._due.set()

    def _on_connect(self) -> None:
        if not self._is_refused:
            self._due.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._replies.keep(self._topic, self._page())
            except Refused as refusal:
                self._is_refused = True
                self._event("refused", f"{self._topic}: {refusal}")
