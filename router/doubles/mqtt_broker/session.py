"""What the broker keeps for one client: what is in flight to it, what waits, and when the session ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import mqtt5

from router.doubles.mqtt_broker.faults import Limits, Stats
from router.doubles.mqtt_broker.message import Delivery

if TYPE_CHECKING:
    from router.doubles.mqtt_broker.group import Group

NEVER_EXPIRES = 0xFFFFFFFF
_MAX_PACKET_ID = 65535


class Wire(Protocol):
    """The connection a session is attached to. `paused` while it cannot take more bytes."""

    paused: bool
    receive_max: int
    max_packet_size: int | None

    def publish(self, data: bytes) -> None:
        """Send one encoded PUBLISH packet."""

    def displace(self) -> None:
        """Another connection took the client id: tell the client and close, without detaching the session."""


class Session:
    """Outgoing state of one client id. It outlives the connection for `expiry_s` seconds.

    Invariants: at most `wire.receive_max` deliveries are in flight; what was in flight when a connection ended
    goes first on the next one, in order, with its packet id and DUP; packet ids go on over reconnects, so that
    a late acknowledgement from an earlier connection does not meet another message.
    """

    def __init__(self, client_id: str, *, limits: Limits, stats: Stats, clock: Callable[[], float]) -> None:
        self.client_id = client_id
        self.expiry_s = 0
        self.ends_at: float | None = None
        self.will: mqtt5.Will | None = None
        self.will_at: float | None = None
        self.wire: Wire | None = None
        self.filters: set[str] = set()
        self.groups: dict[str, Group] = {}
        self._limits = limits
        self._stats = stats
        self._clock = clock
        self._in_flight: dict[int, Delivery] = {}
        self._queue: deque[Delivery] = deque()
        self._used_ids: set[int] = set()
        self._last_id = 0

    def has_room(self, qos: int) -> bool:
        """Whether a delivery of this QoS may leave now."""
        wire = self.wire
        if wire is None or wire.paused:
            return False
        return qos == 0 or len(self._in_flight) < wire.receive_max

    def offer(self, delivery: Delivery) -> bool:
        """Send it or let it wait; false where the queue is full. QoS 0 does not wait for an absent client."""
        if not self._queue and self.has_room(delivery.qos):
            self.send(delivery)
            return True
        if self.wire is None and delivery.qos == 0:
            return True
        if len(self._queue) >= self._limits.max_queued:
            self._stats.lost_full += 1
            return False
        self._queue.append(delivery)
        return True

    def send(self, delivery: Delivery) -> None:
        """Let it leave; the caller has seen that there is room. Expired or too large, it is dropped instead."""
        wire = self.wire
        if wire is None:
            raise RuntimeError(f"session {self.client_id!r} has no connection to send over")
        now = self._clock()
        if delivery.message.expired(now):
            self._stats.lost_expired += 1
            self._release(delivery)
            return
        if delivery.qos and delivery.packet_id is None:
            delivery.packet_id = self._new_id()
        data = delivery.encode(now)
        if wire.max_packet_size is not None and len(data) > wire.max_packet_size:
            self._stats.lost_oversized += 1
            self._release(delivery)
            return
        if delivery.packet_id is not None:
            self._in_flight[delivery.packet_id] = delivery
        self._stats.sent += 1
        self._stats.redelivered += delivery.redelivered
        wire.publish(data)

    def acknowledge(self, packet_id: int) -> None:
        """The client took this delivery: send what that makes room for. Unknown ids are ignored."""
        delivery = self._in_flight.pop(packet_id, None)
        if delivery is None:
            return
        self._stats.acknowledged += 1
        self._release(delivery)
        self.drain()

    def drain(self) -> None:
        """Send what waits while there is room: the session's own first, then what its groups hold."""
        self.send_own()
        for group in self.groups.values():
            group.pump()

    def send_own(self) -> None:
        """Send what waits for this session alone, while there is room."""
        while self._queue and self.has_room(self._queue[0].qos):
            self.send(self._queue.popleft())

    def suspend(self) -> None:
        """The connection is gone: what was in flight waits in front, QoS 0 is forgotten."""
        self.wire = None
        for delivery in self._in_flight.values():
            delivery.redelivered = True
        waiting = (delivery for delivery in self._queue if delivery.qos)
        self._queue = deque([*self._in_flight.values(), *waiting])
        self._in_flight = {}

    def surrender(self, group: Group | None = None) -> list[Delivery]:
        """Give up the unacknowledged deliveries of one group (of every group where `None`), oldest first."""
        given: list[Delivery] = []
        kept: deque[Delivery] = deque()
        for delivery in self._queue:
            shared = delivery.group is not None and (group is None or delivery.group is group)
            (given if shared else kept).append(delivery)
        self._queue = kept
        for delivery in given:
            self._release(delivery)
        return given

    def _new_id(self) -> int:
        candidate = self._last_id
        while True:
            candidate = candidate % _MAX_PACKET_ID + 1
            if candidate not in self._used_ids:
                break
        self._last_id = candidate
        self._used_ids.add(candidate)
        return candidate

    def _release(self, delivery: Delivery) -> None:
        if delivery.packet_id is not None:
            self._used_ids.discard(delivery.packet_id)
            delivery.packet_id = None
