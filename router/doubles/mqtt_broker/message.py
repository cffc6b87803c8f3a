"""A message in the broker, what a subscription makes of it, and its way to one client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import mqtt5
from msgspec import Struct

if TYPE_CHECKING:
    from router.doubles.mqtt_broker.group import Group

QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE)


class Message(Struct, frozen=True, gc=False):
    """A publish as it came: `publisher` is the client id, `received` the broker's clock in seconds."""

    packet: mqtt5.PublishPacket
    publisher: str
    received: float
    qos: int

    def expired(self, now: float) -> bool:
        """Whether it has waited longer than its Message Expiry Interval."""
        lifetime = self.packet.message_expiry_interval
        return lifetime is not None and now - self.received > lifetime

    def remaining(self, now: float) -> int | None:
        """The interval to forward, in whole seconds: as received less the whole seconds it waited."""
        lifetime = self.packet.message_expiry_interval
        return None if lifetime is None else max(0, lifetime - int(now - self.received))


class Grant(Struct, frozen=True):
    """What a subscription gives its client of a matching message."""

    qos: int
    retain_as_published: bool
    identifiers: tuple[int, ...]


def merge(grants: Iterable[Grant]) -> Grant | None:
    """Overlapping subscriptions of one client as one delivery: the highest QoS and every identifier."""
    found = tuple(grants)
    if not found:
        return None
    return Grant(
        max(grant.qos for grant in found),
        any(grant.retain_as_published for grant in found),
        tuple(identifier for grant in found for identifier in grant.identifiers),
    )


class Delivery(Struct):
    """One message on its way to one client. `packet_id` is set while it is, or has been, in flight there;
    `group` is the shared subscription it must go back to if this client does not acknowledge it."""

    message: Message
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    group: Group | None = None
    packet_id: int | None = None
    redelivered: bool = False

    def encode(self, now: float) -> bytes:
        """The PUBLISH packet, with every property of the original."""
        packet = self.message.packet
        return mqtt5.PublishPacket(
            packet.topic,
            packet.payload,
            qos=QOS[self.qos],
            retain=self.retain,
            packet_id=self.packet_id,
            duplicate=self.redelivered and self.qos > 0,
            payload_format_indicator=packet.payload_format_indicator,
            message_expiry_interval=self.message.remaining(now),
            content_type=packet.content_type,
            response_topic=packet.response_topic,
            correlation_data=packet.correlation_data,
            subscription_ids=list(self.identifiers),
            user_properties=packet.user_properties,
        ).write()


def deliver(message: Message, grant: Grant, *, group: Group | None = None) -> Delivery:
    """`message` as a live delivery under `grant`."""
    return Delivery(
        message,
        min(message.qos, grant.qos),
        message.packet.retain and grant.retain_as_published,
        grant.identifiers,
        group,
    )


def will_message(will: mqtt5.Will, *, publisher: str, now: float) -> Message:
    """The message a client leaves behind, as if published at `now`."""
    qos = int(will.qos)
    packet = mqtt5.PublishPacket(
        will.topic,
        will.payload or b"",
        qos=QOS[qos],
        retain=will.retain,
        packet_id=1 if qos else None,
        payload_format_indicator=will.payload_format_indicator,
        message_expiry_interval=will.message_expiry_interval,
        content_type=will.content_type,
        response_topic=will.response_topic,
        correlation_data=will.correlation_data,
        user_properties=will.user_properties,
    )
    return Message(packet, publisher, now, qos)
