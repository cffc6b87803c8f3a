"""A client that speaks raw packets, so that a test says and sees exactly what is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import mqtt5

from router.doubles.mqtt_broker.message import QOS
from router.doubles.mqtt_broker.packets import frame_size, read_packet

_REPLY_TIMEOUT_S = 60.0
_P = TypeVar("_P")


class RawClient:
    """One connection. Nothing is answered or acknowledged by itself.

    `expect` and `fence` raise `TimeoutError` where nothing comes for a minute, and `EOFError` where the
    broker has closed the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._packet_id = 0

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> RawClient:
        """A TCP connection on which nothing has been said yet."""
        return cls(*await asyncio.open_connection(host, port))

    @classmethod
    async def connected(cls, port: int, client_id: str, **options: Any) -> RawClient:
        """A connection that has sent CONNECT (clean start unless told otherwise) and was accepted."""
        client = await cls.open(port)
        answer = await client.connect(client_id, **options)
        if int(answer.reason_code):
            await client.close()
            raise ConnectionRefusedError(answer.reason_code)
        return client

    async def connect(self, client_id: str = "", **options: Any) -> mqtt5.ConnAckPacket:
        """Send CONNECT and take its answer."""
        self.send(mqtt5.ConnectPacket(client_id, **{"clean_start": True, **options}))
        return await self.expect(mqtt5.ConnAckPacket)

    def send(self, *packets: mqtt5.Packet | bytes) -> None:
        """Write packets, or bytes as they are, in one piece."""
        self._writer.write(b"".join(p if isinstance(p, bytes) else p.write() for p in packets))

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, **options: Any) -> int | None:
        """Send PUBLISH; the packet id where it has one."""
        packet_id = self._next_id() if qos else None
        self.send(mqtt5.PublishPacket(topic, payload, qos=QOS[qos], packet_id=packet_id, **options))
        return packet_id

    async def publish_acked(self, topic: str, payload: bytes = b"", **options: Any) -> int:
        """Publish with QoS 1 and take the PUBACK, which must be next: its reason code."""
        packet_id = self.publish(topic, payload, qos=1, **options)
        answer = await self.expect(mqtt5.PubAckPacket)
        if answer.packet_id != packet_id:
            raise AssertionError(f"PUBACK for {answer.packet_id}, not {packet_id}")
        return int(answer.reason_code)

    async def subscribe(
        self, *filters: str | mqtt5.TopicFilter, identifier: int | None = None, qos: int = 1
    ) -> list[int]:
        """Subscribe and take SUBACK, which must be next: its reason codes."""
        asked = [f if isinstance(f, mqtt5.TopicFilter) else mqtt5.TopicFilter(f, max_qos=QOS[qos]) for f in filters]
        self.send(mqtt5.SubscribePacket(self._next_id(), asked, subscription_id=identifier))
        return [int(code) for code in (await self.expect(mqtt5.SubAckPacket)).reason_codes]

    async def unsubscribe(self, *filters: str) -> list[int]:
        """Unsubscribe and take UNSUBACK, which must be next: its reason codes."""
        self.send(mqtt5.UnsubscribePacket(self._next_id(), list(filters)))
        return [int(code) for code in (await self.expect(mqtt5.UnsubAckPacket)).reason_codes]

    def acknowledge(self, packets: Sequence[mqtt5.PublishPacket]) -> None:
        """PUBACK for each publish that has a packet id."""
        self.send(*(mqtt5.PubAckPacket(p.packet_id) for p in packets if p.packet_id is not None))

    async def flushed(self) -> None:
        """Let what was sent leave before anything else is sent."""
        await self._writer.drain()
        await asyncio.sleep(0)

    def take_little(self) -> None:
        """Have the system hold no more than 64 KiB that were not read, however much it would hold by itself."""
        taker: socket.socket = self._writer.get_extra_info("socket")
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)

    async def raw(self, size: int) -> bytes:
        """The next bytes as they are."""
        async with asyncio.timeout(_REPLY_TIMEOUT_S):
            return await self._reader.readexactly(size)

    async def receive(self) -> mqtt5.Packet:
        """The next packet."""
        async with asyncio.timeout(_REPLY_TIMEOUT_S):
            head = await self._reader.readexactly(2)
            while (size := frame_size(memoryview(head))) is None:
                head += await self._reader.readexactly(1)
            return read_packet(memoryview(head + await self._reader.readexactly(size - len(head))))

    async def expect(self, kind: type[_P]) -> _P:
        """The next packet, which must be of this kind."""
        packet = await self.receive()
        if not isinstance(packet, kind):
            raise AssertionError(f"expected {kind.__name__}, got {packet}")
        return packet

    async def fence(self) -> list[mqtt5.PublishPacket]:
        """Ping, and the publishes that came before the answer: all that the broker had to send until now."""
        self.send(mqtt5.PingReqPacket())
        published: list[mqtt5.PublishPacket] = []
        while not isinstance(packet := await self.receive(), mqtt5.PingRespPacket):
            if not isinstance(packet, mqtt5.PublishPacket):
                raise AssertionError(f"expected a publish, got {packet}")
            published.append(packet)
        return published

    async def ended(self) -> list[mqtt5.Packet]:
        """The packets that come until the broker closes the connection."""
        packets: list[mqtt5.Packet] = []
        while True:
            try:
                packets.append(await self.receive())
            except (EOFError, ConnectionError):
                return packets

    async def close(self, *, disconnect: bool = False) -> None:
        """Close the connection, after a DISCONNECT if told so, and wait until the broker has seen it."""
        if disconnect:
            self.send(mqtt5.DisconnectPacket())
        elif not self._writer.is_closing():
            with contextlib.suppress(OSError):
                self._writer.write_eof()
        with contextlib.suppress(EOFError, ConnectionError):
            while await self._reader.read(65_536):
                continue
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id
