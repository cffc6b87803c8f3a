"""One connection to the broker: the only file that knows which client library is used.

aiomqtt connects, holds the keepalive and subscribes. What it does not offer is done on the paho client inside
it: acknowledging by hand, pausing the socket, `session_present`, PUBACK reason codes. PUBLISH and PUBACK go
through `wire.mqtt_packet` and a buffer on the socket: paho takes 160 us for the properties of a request and its
reply against 11, a system call for every field, and drops the connection over a string that one producer got
wrong. Nothing is queued inside paho, where a crash would lose it. A connection is used once: reconnecting makes
a new one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import aiomqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from router.ingress.mqtt_options import MqttOptions
from router.wire.mqtt_packet import Publish, read_publish, write_puback, write_publish

READS_MAX = 32
"""Packets taken from the socket before others get their turn on the event loop."""
BUFFER_BYTES = 64 * 1024
HELD_S = 10.0
"""A connection that held so long was a good one."""
PUBLISH = 0x30
_silent = logging.getLogger("router.mqtt")
_silent.disabled = True


class Disconnected(Exception):
    """No connection, or no longer. `code` is the broker's reason where it sent a DISCONNECT."""

    def __init__(self, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.code = detail, code


class Backoff:
    """Waits between connections: doubling from the least to the most, each drawn between half and all of it.

    Only a connection that held for a while counts as a success: two routers under one client id would otherwise
    throw each other out without a pause.
    """

    def __init__(self, options: MqttOptions, rng: Random) -> None:
        self._least, self._most, self._rng = options.backoff_min_s, options.backoff_max_s, rng
        self._next = self._least

    def wait_s(self, *, lasted_s: float) -> float:
        """Seconds to wait after a connection that lasted so long, 0 if there was none."""
        if lasted_s >= HELD_S:
            self._next = self._least
        wait = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2.0, self._most)
        return wait


class _BufferedSocket:
    """In the place of paho's socket: it reads a byte at a time, this one by the buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._buffer, self._at = sock, b"", 0
        self.send, self.fileno = sock.send, sock.fileno

    def recv(self, size: int) -> bytes:
        """As `socket.recv`, out of the buffer first."""
        if self._at == len(self._buffer):
            if size >= BUFFER_BYTES:
                return self._sock.recv(size)
            self._buffer, self._at = self._sock.recv(BUFFER_BYTES), 0
        start = self._at
        data = self._buffer[start : start + size]
        self._at = start + len(data)
        return data

    def holds_more(self) -> bool:
        """Whether something can be read that no selector sees."""
        pending = getattr(self._sock, "pending", None)
        return self._at < len(self._buffer) or (pending is not None and pending() > 0)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class MqttConnection:
    """Connect by `open`, once. `closed` is done when the connection has ended, with the reason."""

    def __init__(
        self,
        options: MqttOptions,
        client_id: str,
        *,
        on_message: Callable[[Publish], None] | None = None,
        keep_session: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options, self._on_message = options, on_message
        self._confirmations: dict[int, asyncio.Future[int | None]] = {}
        self._outgoing: list[bytes] = []
        self._reading, self._taken, self._is_up = True, 0, False
        self.closed: asyncio.Future[Disconnected] = self._loop.create_future()
        self.session_present = False
        self._opened: float | None = None
        self.max_packet_bytes: int | None = None
        self.may_retain = True
        host, port, _ = options.address()
        self._client = aiomqtt.Client(
            host,
            port,
            identifier=client_id,
            username=options.username,
            password=options.password.get_secret_value() if options.password else None,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=options.tls(),
            clean_start=not keep_session,
            properties=self._connect_properties(keep_session),
            keepalive=options.keepalive_s,
            timeout=options.timeout_s,
            logger=_silent,
        )
        self._paho: Any = self._client._client  # its own annotations lag behind it
        self._take_over(self._paho)

    def _connect_properties(self, keep_session: bool) -> Properties:
        properties = Properties(PacketTypes.CONNECT)
        if keep_session:
            properties.SessionExpiryInterval = self._options.session_expiry_s
            properties.ReceiveMaximum = self._options.receive_maximum
        return properties

    def _take_over(self, paho: Any) -> None:
        paho.connect_timeout = self._options.timeout_s
        library_connect, library_open = paho.on_connect, paho.on_socket_open

        def on_connect(client: Any, data: Any, flags: Any, code: Any, properties: Properties) -> None:
            self._is_up = True
            self._opened = self._loop.time()
            self.session_present = bool(flags.session_present)
            self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            self.may_retain = getattr(properties, "RetainAvailable", 1) != 0
            library_connect(client, data, flags, code, properties)

        def on_socket_open(client: Any, data: Any, sock: socket.socket) -> None:
            library_open(client, data, sock)  # on the connecting thread
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            paho._sock = _BufferedSocket(sock)
            self._loop.call_soon_threadsafe(self._start_reading)

        paho.on_connect = on_connect
        paho.on_socket_open = on_socket_open
        paho.on_socket_register_write = self._on_want_write
        paho.on_socket_unregister_write = self._on_written
        paho.on_disconnect = self._on_disconnect
        paho._handle_publish = self._take
        paho._handle_pubackcomp = self._confirm

    @property
    def lasted_s(self) -> float:
        """Seconds since CONNACK."""
        return 0.0 if self._opened is None else self._loop.time() - self._opened

    async def open(self) -> None:
        """Connect and wait for CONNACK; `Disconnected` says why it could not be."""
        opening = asyncio.ensure_future(self._client.__aenter__())
        try:
            await asyncio.wait((opening, self.closed), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError):
                await opening  # the library connects on a thread, which cannot be stopped
            self._drop()
            raise
        if not opening.done():
            opening.cancel()
            raise self.closed.result()
        try:
            opening.result()
        except aiomqtt.MqttError as error:
            self._drop()
            raise Disconnected(str(error)) from None

    async def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe at QoS 1; `Disconnected` if the broker refuses one."""
        topics = [(topic, SubscribeOptions(qos=1)) for topic in filters]
        granting = asyncio.ensure_future(self._client.subscribe(topics))
        await asyncio.wait((granting, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not granting.done():
            granting.cancel()
            raise self.closed.result()
        try:
            codes = granting.result()
        except aiomqtt.MqttError as error:
            raise Disconnected(f"SUBSCRIBE: {error}") from None
        for topic, code in zip(filters, codes, strict=True):
            value = getattr(code, "value", code)
            if value >= 0x80:
                raise Disconnected(f"the broker refuses to subscribe to {topic}: {code}", value)

    def publish(
        self, topic: str, payload: bytes, properties: bytes, retain: bool = False
    ) -> asyncio.Future[int | None]:
        """Send at QoS 1. The future gets the reason code of PUBACK, or `None` if the connection ended first."""
        confirmation: asyncio.Future[int | None] = self._loop.create_future()
        packet_id = self._paho._mid_generate()
        if self.closed.done() or packet_id in self._confirmations:
            confirmation.set_result(None)
        else:
            self._confirmations[packet_id] = confirmation
            self._put(write_publish(topic, packet_id, properties, payload, retain))
        return confirmation

    def ack(self, message: Publish) -> None:
        """Acknowledge a message of this connection; without effect when the connection is gone."""
        if message.qos and not self.closed.done():
            self._put(write_puback(message.mid))

    def pause(self) -> None:
        """Stop reading the socket: the broker's messages stay with the broker. Writing goes on.

        An answer to a keepalive is not read either: a pause of two intervals ends the connection.
        """
        self._reading = False
        sock = self._paho.socket()
        if sock is not None:
            self._loop.remove_reader(sock.fileno())

    def resume(self) -> None:
        """Read again."""
        self._reading = True
        self._start_reading()
        self._loop.call_soon(self._read)  # TLS may hold bytes that the selector does not see

    async def close(self) -> None:
        """Disconnect in order; the session stays with the broker if it was to be kept."""
        self._flush()
        self._paho.disconnect()
        if self._paho.socket() is not None:
            await asyncio.wait((self.closed,), timeout=self._options.timeout_s)
        self._drop()

    def _drop(self) -> None:
        self._paho._sock_close()
        self._end(Disconnected("closed"))

    def _start_reading(self) -> None:
        sock = self._paho.socket()
        if sock is not None and self._reading:
            self._loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        """Take what the socket holds, until it is another's turn."""
        try:
            for _ in range(READS_MAX):
                if not self._reading or self._paho.socket() is None:
                    return
                self._paho.loop_read()
                sock = self._paho.socket()
                if sock is None or not sock.holds_more():
                    return
        except Exception as error:
            self._drop_because(f"reading: {error!r}")
        else:
            self._loop.call_soon(self._read)

    def _take(self) -> MQTTErrorCode:
        """In the place of paho's own PUBLISH handler."""
        packet = self._paho._in_packet
        message = read_publish(packet["command"], packet["packet"])
        if self._on_message is not None:
            self._on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _confirm(self, _kind: str) -> MQTTErrorCode:
        """In the place of paho's own PUBACK handler. Without a reason code it is 0."""
        packet = self._paho._in_packet["packet"]
        confirmation = self._confirmations.pop(int.from_bytes(packet[:2], "big"), None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(packet[2] if len(packet) > 2 else 0)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _put(self, packet: bytes) -> None:
        """Packets of one turn of the event loop go out together."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packet)

    def _flush(self) -> None:
        if self._outgoing and not self.closed.done():
            self._paho._packet_queue(PUBLISH, b"".join(self._outgoing), 0, 1)
            self._write()
        self._outgoing.clear()

    def _on_want_write(self, _client: Any, _data: Any, _sock: Any) -> None:
        if not self._is_up:  # CONNECT, from the connecting thread
            self._loop.call_soon_threadsafe(self._write)
        else:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Send what is queued as far as the socket takes it, the rest when it takes more."""
        if self._paho.socket() is None or not self._paho.want_write():
            return
        try:
            self._paho.loop_write()
        except Exception as error:
            self._drop_because(f"writing: {error!r}")
            return
        sock = self._paho.socket()
        if sock is not None and self._paho.want_write():
            self._loop.add_writer(sock.fileno(), self._write)

    def _on_written(self, _client: Any, _data: Any, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Properties) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(Disconnected(str(code), code.value))
        else:
            self._end(Disconnected("connection lost" if code == "Unspecified error" else str(code)))

    def _drop_because(self, detail: str) -> None:
        self._end(Disconnected(detail))
        self._paho._sock_close()

    def _end(self, reason: Disconnected) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)
        for confirmation in self._confirmations.values():
            if not confirmation.done():
                confirmation.set_result(None)
        self._confirmations.clear()
