"""One connection to the broker: the only file that knows which client library is used.

aiomqtt connects, holds the keepalive and subscribes. What it does not offer is done on the paho client inside it:
acknowledging by hand, pausing the socket, `session_present`, PUBACK reason codes. PUBLISH packets go through
`wire.mqtt_packet`: paho takes 160 us for the properties of a request and its reply against 11, and drops the
connection over a string that one producer got wrong. A connection is used once: reconnecting makes a new one.
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
from msgspec import Struct
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from router.ingress.mqtt_options import MqttOptions
from router.wire.mqtt_packet import Publish, read_publish

READS_MAX = 32
"""Packets taken from the socket before others get their turn on the event loop."""
_NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
_silent = logging.getLogger("router.mqtt")
_silent.disabled = True


class Disconnected(Exception):  # noqa: N818  # names what happened, as aiomqtt's own do
    """No connection, or no longer. `code` is the broker's reason where it sent a DISCONNECT."""

    def __init__(self, detail: str, code: int | None = None) -> None:
        super().__init__(detail)
        self.detail, self.code = detail, code


class Backoff:
    """Waits between attempts: doubling from the least to the most, each drawn between half and all of it."""

    def __init__(self, options: MqttOptions, rng: Random) -> None:
        self._least, self._most, self._rng = options.backoff_min_s, options.backoff_max_s, rng
        self._next = self._least

    def reset(self) -> None:
        """A connection stood."""
        self._next = self._least

    def wait_s(self) -> float:
        """Seconds to wait now."""
        wait = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2.0, self._most)
        return wait


class _Packed(Struct, frozen=True):
    """Property bytes in the place of paho's own object."""

    data: bytes

    def pack(self) -> bytes:
        return self.data


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
        self._reading, self._taken, self._is_up = True, 0, False
        self.closed: asyncio.Future[Disconnected] = self._loop.create_future()
        self.session_present = False
        self.max_packet_bytes: int | None = None
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
            max_inflight_messages=0,  # unlimited: what is queued inside paho would be lost in a crash
            socket_options=(_NODELAY,),
            logger=_silent,
        )
        self._paho: PahoClient = self._client._client
        self._take_over(self._paho)

    def _connect_properties(self, keep_session: bool) -> Properties:
        properties = Properties(PacketTypes.CONNECT)
        if keep_session:
            properties.SessionExpiryInterval = self._options.session_expiry_s
            properties.ReceiveMaximum = self._options.receive_maximum
        return properties

    def _take_over(self, paho: PahoClient) -> None:
        paho.connect_timeout = self._options.timeout_s
        paho.manual_ack_set(True)
        library_connect, library_open = paho.on_connect, paho.on_socket_open

        def on_connect(
            client: PahoClient, data: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties
        ) -> None:
            self._is_up = True
            self.session_present = bool(flags.session_present)
            self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            library_connect(client, data, flags, code, properties)

        def on_socket_open(client: PahoClient, data: Any, sock: socket.socket) -> None:
            library_open(client, data, sock)  # on the connecting thread
            self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), self._read)

        paho.on_connect = on_connect
        paho.on_socket_open = on_socket_open
        paho.on_socket_register_write = self._on_want_write
        paho.on_socket_unregister_write = self._on_written
        paho.on_disconnect = self._on_disconnect
        paho.on_publish = self._on_publish
        paho._handle_publish = self._take  # type: ignore[method-assign]

    async def open(self) -> None:
        """Connect and wait for CONNACK; `Disconnected` says why it could not be."""
        opening = asyncio.ensure_future(self._client.__aenter__())
        try:
            await asyncio.shield(opening)
        except aiomqtt.MqttError as error:
            self._drop()
            raise Disconnected(str(error)) from None
        except asyncio.CancelledError:
            with suppress(aiomqtt.MqttError):
                await opening  # the library connects on a thread, which cannot be stopped
            self._drop()
            raise

    async def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribe at QoS 1; `Disconnected` if the broker refuses one."""
        topics = [(topic, SubscribeOptions(qos=1)) for topic in filters]
        granting = asyncio.ensure_future(self._client.subscribe(topics))  # type: ignore[arg-type]
        await asyncio.wait((granting, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not granting.done():
            granting.cancel()
            raise self.closed.result()
        try:
            codes = granting.result()
        except aiomqtt.MqttError as error:
            raise Disconnected(f"SUBSCRIBE: {error}") from None
        for topic, code in zip(filters, codes, strict=True):
            if isinstance(code, ReasonCode) and code.is_failure:
                raise Disconnected(f"the broker refuses to subscribe to {topic}: {code}", code.value)

    def publish(self, topic: str, payload: bytes, properties: bytes) -> asyncio.Future[int | None]:
        """Send at QoS 1. The future gets the reason code of PUBACK, or `None` if the connection ended first."""
        confirmation: asyncio.Future[int | None] = self._loop.create_future()
        if not self.closed.done():
            info = self._paho.publish(topic, payload, 1, False, _Packed(properties))  # type: ignore[arg-type]
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._confirmations[info.mid] = confirmation
                return confirmation
        confirmation.set_result(None)
        return confirmation

    def ack(self, message: Publish) -> None:
        """Acknowledge a message of this connection; without effect when the connection is gone."""
        if message.qos and not self.closed.done():
            self._paho.ack(message.mid, message.qos)

    def pause(self) -> None:
        """Stop reading the socket: the broker's messages stay with the broker. Writing goes on."""
        self._reading = False
        sock = self._paho.socket()
        if sock is not None:
            self._loop.remove_reader(sock.fileno())

    def resume(self) -> None:
        """Read again."""
        self._reading = True
        sock = self._paho.socket()
        if sock is not None:
            self._loop.add_reader(sock.fileno(), self._read)
            self._loop.call_soon(self._read)  # TLS may hold bytes that the selector does not see

    async def close(self) -> None:
        """Disconnect in order; the session stays with the broker if it was to be kept."""
        self._paho.disconnect()
        if self._paho.socket() is not None:
            await asyncio.wait((self.closed,), timeout=self._options.timeout_s)
        self._drop()

    def _drop(self) -> None:
        self._paho._sock_close()
        self._end(Disconnected("closed"))

    def _read(self) -> None:
        """Take what the socket holds, until a packet is not a message, or it is another's turn."""
        try:
            for _ in range(READS_MAX):
                taken = self._taken
                if not self._reading or self._paho.socket() is None:
                    return
                self._paho.loop_read()
                if taken == self._taken and not self._tls_pending():
                    return
        except Exception as error:
            self._drop_because(f"reading: {error!r}")

    def _tls_pending(self) -> bool:
        pending = getattr(self._paho.socket(), "pending", None)
        return pending is not None and pending() > 0

    def _take(self) -> MQTTErrorCode:
        """In the place of paho's own PUBLISH handler."""
        packet = self._paho._in_packet
        self._taken += 1
        message = read_publish(packet["command"], packet["packet"])
        if self._on_message is not None:
            self._on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on_want_write(self, _client: PahoClient, _data: Any, _sock: Any) -> None:
        if self._is_up:
            self._loop.call_soon(self._write)
        else:
            self._loop.call_soon_threadsafe(self._write)  # CONNECT comes from the connecting thread

    def _write(self) -> None:
        """Send what is queued, at once if the socket takes it: packets of one turn go out in one go."""
        if self._paho.socket() is None:
            return
        try:
            self._paho.loop_write()
        except Exception as error:
            self._drop_because(f"writing: {error!r}")
            return
        sock = self._paho.socket()
        if sock is not None and self._paho.want_write():
            self._loop.add_writer(sock.fileno(), self._write)

    def _on_written(self, _client: PahoClient, _data: Any, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())

    def _on_publish(self, _client: PahoClient, _data: Any, mid: int, code: ReasonCode, _properties: Properties) -> None:
        confirmation = self._confirmations.pop(mid, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(code.value)

    def _on_disconnect(
        self, _client: PahoClient, _data: Any, flags: Any, code: ReasonCode, _properties: Properties
    ) -> None:
        by_broker = flags.is_disconnect_packet_from_server
        self._end(Disconnected(str(code), code.value if by_broker else None))

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
