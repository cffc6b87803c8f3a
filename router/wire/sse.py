"""Server-sent events, both ways: an incremental decoder of `data:` lines and the encoder of one event.

Follows the WHATWG event stream format: lines end in LF, CRLF or CR, several `data:` lines of one event join
with a newline, comments and other fields are dropped. An event left unfinished at the end is not dispatched.
"""

from __future__ import annotations

import re

from router.domain.errors import ProtocolError

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Bytes in as they come off the wire, the data of complete events out.

    `limit_bytes` bounds one event; `ProtocolError` when it is passed.
    """

    __slots__ = ("_after_cr", "_buffer", "_data", "_fresh", "_limit_bytes", "_size_bytes")

    def __init__(self, limit_bytes: int = 4 * 1024 * 1024) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._fresh = True
        self._after_cr = False
        self._limit_bytes = limit_bytes
        self._size_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece completes, in order."""
        if not piece:
            return []
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = piece.endswith(b"\r")
        buffer = self._buffer + piece if self._buffer else piece
        if self._fresh:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            buffer = buffer.removeprefix(_BOM)
            self._fresh = False
        lines = _LINE_END.split(buffer) if b"\r" in buffer else buffer.split(b"\n")
        self._buffer = lines.pop()
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._buffer) + self._size_bytes > self._limit_bytes:
            raise ProtocolError(f"an event is longer than {self._limit_bytes} bytes")
        return events

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data, self._size_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
        elif line == b"data":
            value = b""
        else:
            return None
        self._data.append(value)
        self._size_bytes += len(value)
        return None


def encode(data: bytes) -> bytes:
    """One event. Line ends inside `data` (white space between JSON tokens) become further `data:` lines."""
    if b"\n" in data or b"\r" in data:
        return b"".join(b"data: " + line + b"\n" for line in _LINE_END.split(data)) + b"\n"
    return b"data: " + data + b"\n\n"
