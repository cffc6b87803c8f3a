"""The embedded broker's delivery against its invariants, over random histories of clients that come and go."""

from __future__ import annotations

import mqtt5
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.doubles.mqtt_broker.exchange import Exchange
from router.doubles.mqtt_broker.faults import Faults, Limits, Stats
from router.doubles.mqtt_broker.message import Message
from router.doubles.mqtt_broker.session import NEVER_EXPIRES, Session

CLIENTS = ("a", "b", "c")
SHARED = "$share/g/t"


class FakeWire:
    """A connection that remembers what it was given and acknowledges when told."""

    def __init__(self, receive_max: int) -> None:
        self.paused = False
        self.receive_max = receive_max
        self.max_packet_size: int | None = None
        self.unacknowledged: list[mqtt5.PublishPacket] = []
        self.received: list[mqtt5.PublishPacket] = []

    def publish(self, data: bytes) -> None:
        packet = mqtt5.read(memoryview(data))[0]
        assert isinstance(packet, mqtt5.PublishPacket)
        self.unacknowledged.append(packet)
        self.received.append(packet)

    def displace(self) -> None:
        self.paused = True


def identifiers(kind: str) -> int:
    return {"plain": 1, "shared": 2}[kind]


class Delivery(RuleBasedStateMachine):
    """Sessions `a` and `b` share a subscription, `b` and `c` have one of their own; all sessions are kept."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(max_queued=10_000)
        self.exchange = Exchange(limits=limits, faults=Faults(), stats=Stats(), clock=lambda: 0.0)
        self.wires: dict[str, FakeWire] = {}
        self.sessions: dict[str, Session] = {}
        self.count = 0
        self.done: set[bytes] = set()
        self.fresh: dict[str, list[bytes]] = {client: [] for client in CLIENTS}
        for client in CLIENTS:
            self.connect(client, 2)
            kinds = {"a": ("shared",), "b": ("shared", "plain"), "c": ("plain",)}[client]
            for kind in kinds:
                asked = mqtt5.TopicFilter(SHARED if kind == "shared" else "t", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
                self.exchange.subscribe(self.sessions[client], asked, identifiers(kind))

    @rule(client=st.sampled_from(CLIENTS), receive_max=st.integers(1, 4))
    def connect(self, client: str, receive_max: int) -> None:
        """A new connection, taking over an open one."""
        self.note(client)
        session, _ = self.exchange.open(client, clean_start=False)
        session.expiry_s = NEVER_EXPIRES
        self.sessions[client] = session
        self.wires[client] = FakeWire(receive_max)
        self.exchange.attach(session, self.wires[client])

    @rule(client=st.sampled_from(CLIENTS))
    def lose(self, client: str) -> None:
        """The connection breaks."""
        if self.sessions[client].wire is not None:
            self.note(client)
            self.exchange.detach(self.sessions[client])
            self.wires[client] = FakeWire(0)

    @rule(client=st.sampled_from(CLIENTS), paused=st.booleans())
    def pause(self, client: str, paused: bool) -> None:
        """The client stops or goes on reading."""
        self.wires[client].paused = paused
        if not paused:
            self.sessions[client].drain()

    @rule(client=st.sampled_from(CLIENTS), place=st.integers(0, 3))
    def acknowledge(self, client: str, place: int) -> None:
        """PUBACK for any message in flight, not only the oldest."""
        wire = self.wires[client]
        if place < len(wire.unacknowledged):
            packet = wire.unacknowledged.pop(place)
            if packet.subscription_ids == [identifiers("shared")]:
                self.done.add(packet.payload)
            assert packet.packet_id is not None
            self.sessions[client].acknowledge(packet.packet_id)

    @rule()
    def publish(self) -> None:
        """One more message, numbered."""
        packet = mqtt5.PublishPacket("t", b"%d" % self.count, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
        assert int(self.exchange.publish(Message(packet, "p", 0.0, 1))) == 0
        self.count += 1

    @invariant()
    def receive_maximum_is_honoured(self) -> None:
        """No connection ever has more in flight than it allows, nor two messages under one packet id."""
        for wire in self.wires.values():
            ids = [packet.packet_id for packet in wire.unacknowledged]
            assert len(ids) <= wire.receive_max
            assert len(set(ids)) == len(ids)

    def note(self, client: str) -> None:
        """Keep what the connection that ends now delivered for the first time by its own subscription."""
        wire = self.wires.get(client)
        for packet in wire.received if wire else ():
            if packet.subscription_ids == [identifiers("plain")] and not packet.duplicate:
                self.fresh[client].append(packet.payload)

    def teardown(self) -> None:
        """Once all are back and acknowledge, nothing is missing: plain in order, shared by somebody."""
        for client in CLIENTS:
            self.connect(client, 4)
        while any(wire.unacknowledged for wire in self.wires.values()):
            for client in CLIENTS:
                self.acknowledge(client, 0)
        everything = [b"%d" % n for n in range(self.count)]
        for client in ("b", "c"):
            self.note(client)
            assert self.fresh[client] == everything
        assert self.done == set(everything)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_packet_ids_are_used_again() -> None:
    """More messages than there are packet ids, with a few always in flight: no id is ever in flight twice."""
    exchange = Exchange(limits=Limits(), faults=Faults(), stats=Stats(), clock=lambda: 0.0)
    session, _ = exchange.open("c", clean_start=True)
    wire = FakeWire(3)
    exchange.attach(session, wire)
    exchange.subscribe(session, mqtt5.TopicFilter("t", max_qos=mqtt5.QoS.AT_LEAST_ONCE), None)
    packet = mqtt5.PublishPacket("t", b"", qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1)
    exchange.publish(Message(packet, "p", 0.0, 1))
    stuck = wire.unacknowledged[0].packet_id
    seen = set()
    for _ in range(66_000):
        exchange.publish(Message(packet, "p", 0.0, 1))
        taken = wire.unacknowledged.pop().packet_id
        assert taken is not None
        assert taken != stuck
        seen.add(taken)
        session.acknowledge(taken)
    assert len(seen) == 65_534
