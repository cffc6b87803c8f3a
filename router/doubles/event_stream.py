"""Frames of `application/vnd.amazon.eventstream`, the encoding of AWS response streams.

A frame is `total length (u32) | headers length (u32) | CRC-32 of those 8 bytes | headers | payload | CRC-32
of all before`, big-endian. A header is `name length (u8) | name | type (u8) | value`; type 7 is a string with
a u16 length, the only type a Bedrock stream uses. Source: the Amazon event stream specification of Smithy.
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

_STRING = 7
_PRELUDE_BYTES = 12
_CRC_BYTES = 4


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message with string headers."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    total = _PRELUDE_BYTES + len(head) + len(payload) + _CRC_BYTES
    prelude = struct.pack("!II", total, len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


def event(name: str, body: dict[str, object]) -> bytes:
    """A modelled event, such as `contentBlockDelta`."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, msgspec.json.encode(body))


def exception(name: str, message: str) -> bytes:
    """A modelled exception that ends the stream, such as `throttlingException`."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, msgspec.json.encode({"message": message}))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING, len(text)) + text
