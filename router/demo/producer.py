"""Who asks in the demo? An MQTT v5 client like any other: it publishes requests and awaits the replies.

Requests carry a response topic, correlation data, an expiry and user properties; some ask for a stream. After
a lost connection what is unanswered is sent again under the same request id, so nothing is paid twice. The
producer keeps a tally of its own, so that the router's figures can be held against it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from random import Random
from secrets import token_hex
from urllib.parse import urlsplit

import aiomqtt
import msgspec
from msgspec import Struct
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from router.demo.stream import DemoRequest, requests
from router.demo.truth import DemoTruth

_NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_GRACE_S = 5.0
"""How much longer than its expiry a request is waited for, before it counts as unanswered."""
_RECONNECT_S = 0.5
_FLUSH_S = 10.0


class Tally(Struct):
    """What the producer has seen. `sent = answered + errors + timeouts` once nothing is open."""

    sent: int = 0
    answered: int = 0
    streamed: int = 0
    pieces: int = 0
    timeouts: int = 0
    late: int = 0
    resent: int = 0
    feedback: int = 0
    reconnects: int = 0
    errors: Counter[str] = msgspec.field(default_factory=Counter)


class _Outgoing(Struct, frozen=True):
    topic: str
    payload: bytes
    properties: Properties


class _ErrorBody(Struct, frozen=True):
    class Error(Struct, frozen=True):
        code: str | None = None

    error: Error | None = None


_read_error = msgspec.json.Decoder(_ErrorBody).decode


class Producer:
    """Publishes the demo's stream to a broker until it is told to stop, and sends feedback for a share of replies."""

    def __init__(
        self,
        url: str,
        truth: DemoTruth,
        *,
        per_s: float = 8.0,
        seed: int = 0,
        feedback_ratio: float = 0.3,
        prefix: str = "router",
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 1883
        self._truth, self._prefix, self._seed, self._per_s = truth, prefix, seed, per_s
        self._feedback_ratio = feedback_ratio
        self._rng = Random(f"{seed}/producer")
        self._client_id = f"demo-producer-{self._rng.getrandbits(32):08x}"
        self._replies = f"demo/replies/{self._client_id}"
        self._open: dict[str, DemoRequest] = {}
        self._nothing_open = asyncio.Event()
        self._outbox: asyncio.Queue[_Outgoing] = asyncio.Queue()
        self.tally = Tally()

    @property
    def open(self) -> int:
        """Requests that wait for their reply."""
        return len(self._open)

    async def run(self, for_s: float | None = None) -> None:
        """Publish for so many seconds, or until cancelled; then wait until nothing is open."""
        talking = asyncio.create_task(self._talk())
        try:
            await self._produce(for_s)
            await self._nothing_open.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._outbox.join(), _FLUSH_S)
        finally:
            talking.cancel()
            await asyncio.wait([talking])

    async def _produce(self, for_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        self._nothing_open.set()
        for request in requests(seed=self._seed, per_s=self._per_s, run=f"{token_hex(3)}-"):
            if for_s is not None and request.at_s >= for_s:
                await asyncio.sleep(start + for_s - loop.time())
                return
            await asyncio.sleep(start + request.at_s - loop.time())
            self._truth.announce(request)
            self._open[request.id] = request
            self._nothing_open.clear()
            self.tally.sent += 1
            loop.call_later(request.expiry_s + _GRACE_S, self._give_up, request.id)
            self._outbox.put_nowait(self._outgoing(request))

    def _give_up(self, request_id: str) -> None:
        if self._close(request_id) is not None:
            self.tally.timeouts += 1

    def _close(self, request_id: str) -> DemoRequest | None:
        request = self._open.pop(request_id, None)
        if not self._open:
            self._nothing_open.set()
        return request

    async def _talk(self) -> None:
        """Hold a connection, and make a new one when it is lost."""
        while True:
            try:
                async with self._client() as client:
                    await client.subscribe(self._replies, qos=1)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._send(client))
                        group.create_task(self._receive(client))
            except* aiomqtt.MqttError:
                self.tally.reconnects += 1
            await asyncio.sleep(_RECONNECT_S)
            self._send_again()

    def _client(self) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._host,
            self._port,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            max_inflight_messages=65_535,
            socket_options=(_NODELAY,),
        )
        client.pending_calls_threshold = 10_000  # above it the library logs a warning for each call
        return client

    def _send_again(self) -> None:
        while not self._outbox.empty():
            self._outbox.get_nowait()
            self._outbox.task_done()
        for request in self._open.values():
            self.tally.resent += 1
            self._outbox.put_nowait(self._outgoing(request))

    async def _send(self, client: aiomqtt.Client) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                message = await self._outbox.get()
                group.create_task(self._publish(client, message))

    async def _publish(self, client: aiomqtt.Client, message: _Outgoing) -> None:
        try:
            await client.publish(message.topic, message.payload, qos=1, properties=message.properties)
        finally:
            self._outbox.task_done()

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            fields = dict(getattr(message.properties, "UserProperty", ()))
            correlation: bytes = getattr(message.properties, "CorrelationData", b"")
            self._on_reply(correlation.decode(errors="replace"), payload, fields)

    def _on_reply(self, request_id: str, payload: bytes, fields: dict[str, str]) -> None:
        if "seq" in fields:
            self.tally.pieces += 1
            if fields.get("final") != "true":
                return
        request = self._close(request_id)
        if request is None:
            self.tally.late += 1
            return
        code = _error_code(payload)
        if code is not None:
            self.tally.errors[code] += 1
            return
        self.tally.answered += 1
        self.tally.streamed += "seq" in fields
        if self._rng.random() < self._feedback_ratio:
            self._judge(request, fields)

    def _judge(self, request: DemoRequest, fields: dict[str, str]) -> None:
        decision = fields.get("router-decision-id")
        quality = self._truth.quality(request.id, fields.get("router-model", ""))
        if decision is not None and quality is not None:
            self.tally.feedback += 1
            body = msgspec.json.encode({"decision_id": decision, "quality": quality})
            self._outbox.put_nowait(_Outgoing(f"{self._prefix}/feedback", body, Properties(PacketTypes.PUBLISH)))

    def _outgoing(self, request: DemoRequest) -> _Outgoing:
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.prompt}]
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = self._replies
        properties.CorrelationData = request.id.encode()
        properties.MessageExpiryInterval = request.expiry_s
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = [("request-id", request.id), ("tenant", request.tenant)]
        return _Outgoing(
            f"{self._prefix}/requests/{request.use_case}",
            msgspec.json.encode({"model": "auto", "messages": messages, "stream": request.stream}),
            properties,
        )


def _error_code(payload: bytes) -> str | None:
    """The code of an error body; `None` for an answer."""
    if payload == b"[DONE]":
        return None
    try:
        error = _read_error(payload).error
    except msgspec.DecodeError:
        return "unreadable"
    return None if error is None else error.code or "unknown"
