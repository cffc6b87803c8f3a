"""What once went wrong at the HTTP door."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from router.ingress.http_server import CONNECTION, HttpServer


async def test_a_first_token_does_not_wait_for_an_acknowledgement() -> None:
    """Connections send small pieces at once: with Nagle's algorithm the first piece after the head waits 40 ms for the
    client's delayed ACK, on loops that do not switch it off themselves."""
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        one = scope[CONNECTION].transport.get_extra_info("socket")
        seen.append(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    server = HttpServer(app, host="127.0.0.1", port=0, keepalive_s=5.0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"204" in await reader.readline()
    writer.close()
    await writer.wait_closed()
    await server.stop(grace_s=1.0, cut=lambda: None)
    assert seen == [1]
