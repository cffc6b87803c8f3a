"""A PUBLISH packet of MQTT 5: what stands before the payload, read and written.

Read here and not by the client library because one producer's bad string must not cost everybody the
connection: what cannot be decoded is said in `Publish.problem`, and the sender gets an answer wherever its
Response Topic can still be read. (Section 3.3 of the standard; property numbers from its table 2-4.)
"""

from __future__ import annotations

import struct
from struct import pack, unpack_from

from msgspec import Struct

_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA = 1, 2, 3, 8, 9
_SUBSCRIPTION, _ALIAS, _USER_PROPERTY = 11, 35, 38
_PUBLISH_QOS_1 = b"\x32"
_RETAINED_QOS_1 = b"\x33"
_IS_TEXT = b"\x01\x01"
"""Payload Format Indicator: UTF-8."""


class Publish(Struct, frozen=True):
    """A message as it came. `expiry_s` is what is left of its Message Expiry Interval.

    `properties` are the user properties. `problem` says what could not be decoded: such a text is empty, such
    a topic has replacement characters, and after malformed properties those before them are left.
    """

    topic: str
    payload: bytes
    mid: int = 0
    qos: int = 0
    is_redelivered: bool = False
    response_topic: str | None = None
    correlation_data: bytes | None = None
    expiry_s: int | None = None
    properties: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


class _Reader:
    """Walks over the properties; fields are filled as they come."""

    __slots__ = ("at", "body", "correlation_data", "expiry_s", "problem", "properties", "response_topic")

    def __init__(self, body: bytes | bytearray, at: int) -> None:
        self.body, self.at = body, at
        self.response_topic: str | None = None
        self.correlation_data: bytes | None = None
        self.expiry_s: int | None = None
        self.properties: list[tuple[str, str]] = []
        self.problem: str | None = None

    def binary(self) -> bytes:
        (size,) = unpack_from("!H", self.body, self.at)
        start = self.at + 2
        self.at = start + size
        if self.at > len(self.body):
            raise IndexError("a length goes past the end of the packet")
        return bytes(self.body[start : self.at])

    def text(self, what: str) -> str:
        data = self.binary()
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.problem = f"invalid UTF-8 in {what}"
            return ""

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.body[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 21:
                raise IndexError("a variable byte integer is longer than four bytes")

    def property(self) -> None:
        kind = self.body[self.at]
        self.at += 1
        if kind == _USER_PROPERTY:
            self.properties.append((self.text("a user property"), self.text("a user property")))
        elif kind == _CORRELATION_DATA:
            self.correlation_data = self.binary()
        elif kind == _RESPONSE_TOPIC:
            self.response_topic = self.text("the Response Topic")
        elif kind == _EXPIRY:
            (self.expiry_s,) = unpack_from("!I", self.body, self.at)
            self.at += 4
        else:
            self._skip(kind)

    def _skip(self, kind: int) -> None:
        if kind == _FORMAT:
            self.at += 1
        elif kind == _ALIAS:
            self.at += 2
        elif kind == _CONTENT_TYPE:
            self.text("the Content Type")
        elif kind == _SUBSCRIPTION:
            self.number()
        else:
            raise IndexError(f"property {kind} does not belong in a PUBLISH")


def read_publish(header: int, body: bytes | bytearray) -> Publish:
    """Decode what follows the fixed header `header`; `ValueError` where not even the packet id can be read."""
    reader = _Reader(body, 0)
    qos = header >> 1 & 3
    try:
        topic = reader.text("the topic") or body[2 : reader.at].decode(errors="replace")
        mid = 0
        if qos:
            (mid,) = unpack_from("!H", body, reader.at)
            reader.at += 2
        size = reader.number()
        end = reader.at + size
        if end > len(body):
            raise IndexError("a length goes past the end of the packet")
    except (struct.error, IndexError) as error:
        raise ValueError(f"malformed PUBLISH: {error}") from error
    try:
        while reader.at < end:
            reader.property()
    except (struct.error, IndexError) as error:
        reader.problem = f"malformed properties: {error}"
    return Publish(
        topic=topic,
        payload=bytes(body[end:]),
        mid=mid,
        qos=qos,
        is_redelivered=bool(header & 0x08),
        response_topic=reader.response_topic,
        correlation_data=reader.correlation_data,
        expiry_s=reader.expiry_s,
        properties=tuple(reader.properties),
        problem=reader.problem,
    )


def pack_properties(
    content_type: str,
    correlation_data: bytes | None,
    properties: tuple[tuple[str, str], ...],
    *,
    response_topic: str | None = None,
    expiry_s: int | None = None,
) -> bytes:
    """The property section of a PUBLISH whose payload is text, with its length in front."""
    parts = [_IS_TEXT, bytes((_CONTENT_TYPE,)), _text(content_type)]
    if correlation_data is not None:
        parts += (bytes((_CORRELATION_DATA,)), pack("!H", len(correlation_data)), correlation_data)
    if response_topic is not None:
        parts += (bytes((_RESPONSE_TOPIC,)), _text(response_topic))
    if expiry_s is not None:
        parts += (bytes((_EXPIRY,)), pack("!I", expiry_s))
    for name, value in properties:
        parts += (b"&", _text(name), _text(value))
    body = b"".join(parts)
    return _variable(len(body)) + body


def write_publish(topic: str, packet_id: int, properties: bytes, payload: bytes, retain: bool = False) -> bytes:
    """A whole PUBLISH at QoS 1. `properties` are as `pack_properties` gives them."""
    head, name = _RETAINED_QOS_1 if retain else _PUBLISH_QOS_1, topic.encode()
    size = _variable(len(name) + 4 + len(properties) + len(payload))
    return b"".join((head, size, pack("!H", len(name)), name, pack("!H", packet_id), properties, payload))


def write_puback(packet_id: int) -> bytes:
    """A whole PUBACK that says success."""
    return b"\x40\x02" + pack("!H", packet_id)


def _text(text: str) -> bytes:
    data = text.encode()
    return pack("!H", len(data)) + data


def _variable(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
