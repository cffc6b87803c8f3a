"""Reading packets off the wire, and what a well-formed one may still not say."""

from __future__ import annotations

import mqtt5
from mqtt5 import ConnAckReasonCode, DisconnectReasonCode

from router.doubles.mqtt_broker.topics import valid_topic

_PANIC = "PanicException"
_OLD_NAMES = (b"\x00\x04MQTT", b"\x00\x06MQIsdp")


class PacketError(Exception):
    """A packet that ends its sender's connection, with the reason code that says so."""

    def __init__(self, reason: DisconnectReasonCode, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def frame_size(data: memoryview) -> int | None:
    """Bytes of the packet that begins `data`, by its fixed header; `None` while that is incomplete.

    Raises `PacketError` where the remaining length is longer than four bytes (MQTT 5, 1.5.5).
    """
    length = shift = 0
    for at in range(1, min(len(data), 5)):
        byte = data[at]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return 1 + at + length
        shift += 7
    if len(data) < 5:
        return None
    raise PacketError(DisconnectReasonCode.MALFORMED_PACKET, "remaining length is too long")


def read_packet(frame: memoryview) -> mqtt5.Packet:
    """The packet in a whole frame. Raises `PacketError` where it is malformed.

    The codec panics on some input (text that is not UTF-8, for one); its panic derives from `BaseException`
    and cannot be imported, so it is known by its name.
    """
    try:
        return mqtt5.read(frame)[0]
    except (ValueError, IndexError) as error:
        raise PacketError(DisconnectReasonCode.MALFORMED_PACKET, str(error)) from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise PacketError(DisconnectReasonCode.MALFORMED_PACKET, "packet cannot be decoded") from None


def refusal_for_old_version(head: bytes) -> bytes | None:
    """The MQTT 3 CONNACK "unacceptable protocol version" where `head` begins an MQTT 3 CONNECT."""
    for name in _OLD_NAMES:
        at = head.find(name, 2, 5 + len(name))
        level = head[at + len(name) : at + len(name) + 1]
        if at > 0 and level in (b"\x03", b"\x04"):
            return b"\x20\x02\x00\x01"
    return None


def refusal_of_connect(packet: mqtt5.ConnectPacket) -> ConnAckReasonCode | None:
    """Why this CONNECT cannot be accepted; `None` where it can."""
    if packet.authentication_method is not None:
        return ConnAckReasonCode.BAD_AUTHENTICATION_METHOD
    if "\0" in packet.client_id:
        return ConnAckReasonCode.CLIENT_ID_NOT_VALID
    will = packet.will
    if will is None:
        return None
    if int(will.qos) > 1:
        return ConnAckReasonCode.QUALITY_NOT_SUPPORTED
    if not valid_topic(will.topic):
        return ConnAckReasonCode.TOPIC_NAME_INVALID
    if _bad_properties(will):
        return ConnAckReasonCode.MALFORMED_PACKET
    return None


def check_publish(packet: mqtt5.PublishPacket, qos: int) -> None:
    """Raise `PacketError` where a client may not publish this."""
    if qos == 2:
        raise PacketError(DisconnectReasonCode.QOS_NOT_SUPPORTED, "QoS 2 is not supported")
    if packet.topic_alias is not None:
        raise PacketError(DisconnectReasonCode.TOPIC_ALIAS_INVALID, "topic aliases are not offered")
    if not valid_topic(packet.topic):
        raise PacketError(DisconnectReasonCode.TOPIC_NAME_INVALID, "topic has a wildcard or NUL")
    if packet.subscription_ids:
        raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, "a client sends no subscription identifier")
    if packet.packet_id == 0 or (packet.duplicate and not qos):
        raise PacketError(DisconnectReasonCode.MALFORMED_PACKET, "packet id 0, or DUP on QoS 0")
    if _bad_properties(packet):
        raise PacketError(DisconnectReasonCode.MALFORMED_PACKET, "a property breaks the rules")


def check_subscribe(packet: mqtt5.SubscribePacket) -> None:
    """Raise `PacketError` where the packet as a whole is wrong; single filters are answered in SUBACK."""
    _check_list(packet.packet_id, len(packet.topic_filters))
    if any(asked.no_local and asked.pattern.startswith("$share/") for asked in packet.topic_filters):
        raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, "No Local on a shared subscription")


def check_unsubscribe(packet: mqtt5.UnsubscribePacket) -> None:
    """Raise `PacketError` where the packet as a whole is wrong."""
    _check_list(packet.packet_id, len(packet.patterns))


def _check_list(packet_id: int, filters: int) -> None:
    if packet_id == 0 or not filters:
        raise PacketError(DisconnectReasonCode.PROTOCOL_ERROR, "no packet id, or no topic filter")


def _bad_properties(carrier: mqtt5.PublishPacket | mqtt5.Will) -> bool:
    """Rules the codec does not check: a strict receiver of the forwarded message would hang up over them."""
    response_topic = carrier.response_topic
    if response_topic is not None and not valid_topic(response_topic):
        return True
    if carrier.payload_format_indicator > 1 or "\0" in (carrier.content_type or ""):
        return True
    return any("\0" in key or "\0" in value for key, value in carrier.user_properties)
