"""A load generator for HTTP on bare protocols: each connection sends one request after the other.

It reads only as much of a response as tells where it ends, so that it takes less CPU than what it measures.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def post(path: str, host: str, body: bytes) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Tally:
    """What came of a run. Latencies in seconds, from the request's last byte to the response's."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Good responses a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, q: float) -> float:
        """A latency quantile in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] * 1e3


class _Connection(asyncio.Protocol):
    """Sends `request` again and again until told to stop; `done` is set when the last response is in."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._transport: asyncio.Transport
        self._head = b""
        self._in_body = False
        self._left: int | None = None
        self._tail = b""
        self._sent = 0.0
        self.stopping = False
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.is_set():
            self._tally.failed += 1
            self.done.set()

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += data
            end = self._head.find(_END_OF_HEAD)
            if end < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + len(_END_OF_HEAD) :]
            self._begin(head)
        if self._left is None:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            complete = self._tail == _LAST_CHUNK
        else:
            self._left -= len(data)
            complete = self._left <= 0
        if complete:
            self._finish()

    def _begin(self, head: bytes) -> None:
        self._in_body = True
        self._good = head[9:12] == b"200"
        _, found, rest = head.partition(b"content-length:")
        self._left = int(rest.partition(b"\r\n")[0]) if found else None
        self._tail = b""

    def _finish(self) -> None:
        if self._good:
            self._tally.latencies_s.append(time.perf_counter() - self._sent)
        else:
            self._tally.failed += 1
        if self.stopping:
            self.done.set()
            self._transport.close()
        else:
            self._send()

    def _send(self) -> None:
        self._head, self._in_body = b"", False
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def drive(address: tuple[str, int], request: bytes, *, connections: int, seconds: float) -> Tally:
    """Keep so many connections busy for so many seconds."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: _Connection(request, tally), *address))[1] for _ in range(connections)
    ]
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    for one in opened:
        one.stopping = True
    async with asyncio.timeout(30):
        for one in opened:
            await one.done.wait()
    tally.seconds = time.perf_counter() - started
    return tally
