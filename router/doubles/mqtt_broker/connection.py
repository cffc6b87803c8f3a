"""One TCP connection: bytes to packets and back, and the rules of MQTT 5 that concern a single client."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import mqtt5
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode

from router.doubles.mqtt_broker.exchange import Exchange
from router.doubles.mqtt_broker.faults import count_down
from router.doubles.mqtt_broker.message import QOS, Message
from router.doubles.mqtt_broker.packets import (
    PacketError,
    check_publish,
    check_subscribe,
    check_unsubscribe,
    frame_size,
    read_packet,
    refusal_for_old_version,
    refusal_of_connect,
)
from router.doubles.mqtt_broker.session import Session

_CONNECT_BYTE = 0x10
_CONNECT_TIMEOUT_S = 10.0
_LINGER_S = 5.0
_WRITE_HIGH_BYTES = 1024 * 1024
_PINGRESP = mqtt5.PingRespPacket().write()
_UNSUBSCRIBED = mqtt5.UnsubAckReasonCode.SUCCESS
_NOT_SUBSCRIBED = mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED


class Connection(asyncio.Protocol):
    """A client's connection, and the `Wire` of its session once it has sent CONNECT.

    Answers are collected and written once a loop iteration. Closing is one way: what is queued is flushed,
    nothing is read any more, and the session is detached when the transport reports the end. `lost` is done
    then.
    """

    def __init__(self, exchange: Exchange, connections: set[Connection]) -> None:
        self.paused = False
        self.receive_max = 65535
        self.max_packet_size: int | None = None
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._exchange = exchange
        self._connections = connections
        self._session: Session | None = None
        self._keep_alive_s = 0
        self._last_heard = exchange.clock()
        self._closing_since: float | None = None
        self._out: list[bytes] = []
        self._unflushed_acks = 0
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._partial = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; CONNECT is due."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, by whichever side."""
        if self._closing_since is None:
            self._closing_since = self._exchange.clock()
        self._out.clear()
        self._connections.discard(self)
        session, self._session = self._session, None
        if session is not None:
            self._exchange.detach(session)
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The client reads too slowly: messages wait in its session."""
        self.paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._closing_since is None:
            self.paused = False
            if self._session is not None:
                self._session.drain()

    def data_received(self, data: bytes) -> None:
        """Handle every whole packet; the rest waits for more bytes."""
        self._last_heard = self._exchange.clock()
        buffer: bytes | bytearray = data
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            buffer, self._partial = self._partial, bytearray()
        view = memoryview(buffer)
        at, end = 0, len(view)
        try:
            while at < end and self._closing_since is None:
                size = self._whole_frame(view[at:])
                if size is None:
                    self._partial += view[at:]
                    return
                packet = read_packet(view[at : at + size])
                at += size
                self._handle(packet)
        except PacketError as error:
            self._exchange.stats.violations += 1
            if self._session is None:
                self._refuse(error, bytes(view[at : at + 16]))
            else:
                self.disconnect(error.reason, error.detail)

    def publish(self, data: bytes) -> None:
        """Send one encoded PUBLISH, after the delay that is switched on; never before an earlier one."""
        delay_s = self._exchange.faults.delay_s
        if not delay_s and not self._delayed:
            self._leave(data)
            return
        self._delayed.append((self._loop.time() + delay_s, data))
        if len(self._delayed) == 1:
            self._loop.call_at(self._delayed[0][0], self._release_delayed)

    def displace(self) -> None:
        """Another connection took the client id: tell the client and close, without detaching the session."""
        self._session = None
        self.disconnect(DisconnectReasonCode.SESSION_TAKEN_OVER)

    def disconnect(self, reason: DisconnectReasonCode, detail: str | None = None) -> None:
        """Say why, and close. The detail is left out where the client cannot take so long a packet."""
        packet = mqtt5.DisconnectPacket(reason_code=reason, reason_str=detail).write()
        if self.max_packet_size is not None and len(packet) > self.max_packet_size:
            packet = mqtt5.DisconnectPacket(reason_code=reason).write()
        self._send(packet)
        self._close()

    def check(self, now: float) -> None:
        """Close what has been silent for too long, and end what cannot be closed in good order."""
        silent_s = now - self._last_heard
        if self._closing_since is not None:
            if now - self._closing_since > _LINGER_S:
                self.abort()
        elif self._session is None:
            if silent_s > _CONNECT_TIMEOUT_S:
                self._close()
        elif self._keep_alive_s and silent_s > 1.5 * self._keep_alive_s:
            self.disconnect(DisconnectReasonCode.KEEP_ALIVE_TIMEOUT)

    def abort(self) -> None:
        """End the connection without flushing."""
        self._transport.abort()

    def _whole_frame(self, data: memoryview) -> int | None:
        """The size of the packet that begins `data`; `None` where more bytes are needed for it."""
        if self._session is None and data[0] != _CONNECT_BYTE:
            raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, "CONNECT comes first")
        size = frame_size(data)
        self._needed = size or 0
        if size is None:
            return None
        if size > self._exchange.limits.max_packet_size_bytes:
            raise PacketError(DisconnectReasonCode.PACKET_TOO_LARGE, f"packet of {size} bytes")
        return size if size <= len(data) else None

    def _handle(self, packet: mqtt5.Packet) -> None:
        session = self._session
        if session is None:
            self._on_connect(cast(mqtt5.ConnectPacket, packet))
            return
        handler = _HANDLERS.get(type(packet))
        if handler is None:
            raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, f"unexpected {type(packet).__name__}")
        handler(self, session, packet)
        cuts = self._exchange.faults.cut_after_packets
        if cuts and count_down(cuts, session.client_id):
            self._cut(flush=False)

    def _on_connect(self, packet: mqtt5.ConnectPacket) -> None:
        exchange = self._exchange
        exchange.stats.connects += 1
        refusal = refusal_of_connect(packet)
        if exchange.faults.refuse_connections:
            refusal = ConnAckReasonCode.SERVER_UNAVAILABLE
        if refusal is not None:
            exchange.stats.refused += 1
            self._send(mqtt5.ConnAckPacket(reason_code=refusal).write())
            self._close()
            return
        assigned = None if packet.client_id else f"auto-{uuid4().hex}"
        session, present = exchange.open(assigned or packet.client_id, clean_start=packet.clean_start)
        session.expiry_s = packet.session_expiry_interval
        session.will = packet.will
        self._session = session
        self._keep_alive_s = packet.keep_alive
        self.receive_max = packet.receive_max
        self.max_packet_size = packet.max_packet_size
        answer = mqtt5.ConnAckPacket(
            session_present=present,
            assigned_client_id=assigned,
            receive_max=exchange.limits.receive_max,
            max_packet_size=exchange.limits.max_packet_size_bytes,
            max_qos=QOS[1],
        )
        self._send(answer.write())
        exchange.attach(session, self)

    def _on_publish(self, session: Session, packet: mqtt5.PublishPacket) -> None:
        qos = int(packet.qos)
        check_publish(packet, qos)
        if qos:
            self._unflushed_acks += 1
            if self._unflushed_acks > self._exchange.limits.receive_max:
                raise PacketError(DisconnectReasonCode.RECEIVE_MAX_EXCEEDED, "too many publishes in flight")
        reason = self._exchange.publish(Message(packet, session.client_id, self._last_heard, qos))
        if packet.packet_id is not None:
            self._send(mqtt5.PubAckPacket(packet.packet_id, reason_code=reason).write())

    def _on_puback(self, session: Session, packet: mqtt5.PubAckPacket) -> None:
        session.acknowledge(packet.packet_id)

    def _on_subscribe(self, session: Session, packet: mqtt5.SubscribePacket) -> None:
        check_subscribe(packet)
        codes = [self._exchange.answer(asked) for asked in packet.topic_filters]
        self._send(mqtt5.SubAckPacket(packet.packet_id, codes).write())
        for asked, code in zip(packet.topic_filters, codes, strict=True):
            if int(code) < 0x80:
                self._exchange.subscribe(session, asked, packet.subscription_id)

    def _on_unsubscribe(self, session: Session, packet: mqtt5.UnsubscribePacket) -> None:
        check_unsubscribe(packet)
        removed = [self._exchange.unsubscribe(session, pattern) for pattern in packet.patterns]
        codes = [_UNSUBSCRIBED if there else _NOT_SUBSCRIBED for there in removed]
        self._send(mqtt5.UnsubAckPacket(packet.packet_id, codes).write())

    def _on_pingreq(self, session: Session, packet: mqtt5.PingReqPacket) -> None:
        self._send(_PINGRESP)

    def _on_disconnect(self, session: Session, packet: mqtt5.DisconnectPacket) -> None:
        expiry_s = packet.session_expiry_interval
        if expiry_s is not None:
            if expiry_s and not session.expiry_s:
                raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, "session expiry was 0 at CONNECT")
            session.expiry_s = expiry_s
        if int(packet.reason_code) == 0:
            session.will = None
        self._close()

    def _refuse(self, error: PacketError, head: bytes) -> None:
        """Answer a first packet that cannot be accepted, if it is a CONNECT at all."""
        if head[0] == _CONNECT_BYTE:
            reason = ConnAckReasonCode(int(error.reason))
            old = refusal_for_old_version(head)
            self._send(old or mqtt5.ConnAckPacket(reason_code=reason, reason_str=error.detail).write())
        self._close()

    def _leave(self, data: bytes) -> None:
        self._send(data)
        cuts = self._exchange.faults.cut_after_publishes
        if cuts and self._session is not None and count_down(cuts, self._session.client_id):
            self._cut(flush=True)

    def _release_delayed(self) -> None:
        now = self._loop.time()
        while self._delayed and self._delayed[0][0] <= now:
            self._leave(self._delayed.popleft()[1])
        if self._delayed:
            self._loop.call_at(self._delayed[0][0], self._release_delayed)

    def _cut(self, *, flush: bool) -> None:
        self._exchange.stats.cut += 1
        if not flush:
            self._out.clear()
        self._close()

    def _send(self, data: bytes) -> None:
        if self._closing_since is None:
            if not self._out:
                self._loop.call_soon(self._flush)
            self._out.append(data)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._unflushed_acks = 0
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _close(self) -> None:
        if self._closing_since is None:
            self._closing_since = self._exchange.clock()
            self.paused = True
            self._delayed.clear()
            self._flush()
            self._transport.close()


_HANDLERS: dict[type, Callable[[Connection, Session, Any], None]] = {
    mqtt5.PublishPacket: Connection._on_publish,
    mqtt5.PubAckPacket: Connection._on_puback,
    mqtt5.SubscribePacket: Connection._on_subscribe,
    mqtt5.UnsubscribePacket: Connection._on_unsubscribe,
    mqtt5.PingReqPacket: Connection._on_pingreq,
    mqtt5.DisconnectPacket: Connection._on_disconnect,
}
