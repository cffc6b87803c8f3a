"""The socket side: uvicorn on a bound port, and word of a client that hangs up.

ASGI tells of a disconnect only to who waits in `receive`, which costs a task a request. Here the connection
itself calls back: a handler puts its callback in `scope[CONNECTION].on_lost` and needs no task.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.domain.errors import SettingsError

CONNECTION = "router.connection"
_FLUSH_S = 1.0
"""How long the last bytes may take to reach their clients before the connections are dropped."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection. One request at a time is served on it, so one callback is enough."""

    on_lost: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        """A request starts: let its handler find the connection."""
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]  # a scope may carry extra keys

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone, or we closed."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None


class HttpServer:
    """Serves one ASGI application on one socket; touches neither signals nor logging."""

    def __init__(self, app: Callable[..., Any], *, host: str, port: int, keepalive_s: float) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(round(keepalive_s), 1),
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._address = (host, port)
        self._sockets: list[socket.socket] = []
        self._ticking: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        """Bind and serve; `SettingsError` where the address cannot be had. `port` is the real one from here on."""
        listener = self._bound()
        listener.setblocking(False)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a first token waits 40 ms for an ACK
        self._sockets = [listener]
        self.port = listener.getsockname()[1]
        await self._server.startup(sockets=self._sockets)
        self._ticking = asyncio.create_task(self._server.main_loop(), name="http-server")

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            return socket.create_server(self._address, family=family, backlog=2048)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise SettingsError(
                f"cannot listen on {self._address[0]} port {self._address[1]}: {why}. Name another with"
                " ROUTER_HTTP__HOST, and with --port or ROUTER_HTTP__PORT"
            ) from None

    async def stop(self, *, grace_s: float, cut: Callable[[], None]) -> None:
        """Stop listening, let answers finish for `grace_s`, then `cut` them, at last drop what is left."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        self._ticking = None
        for listening in self._server.servers:
            listening.close()
        state = self._server.server_state
        for connection in tuple(state.connections):
            connection.shutdown()
        await _finish(state.tasks, grace_s)
        cut()
        await _finish(state.tasks, _FLUSH_S)
        await self._flush()
        await _finish(state.tasks, None)

    async def _flush(self) -> None:
        """Give the last bytes time to leave, then drop connections whose peer does not read."""
        connections = self._server.server_state.connections
        open_still = [one for one in connections if isinstance(one, Connection)]
        lost = [asyncio.Event() for _ in open_still]
        for connection, event in zip(open_still, lost, strict=True):
            connection.on_lost = event.set
        try:
            async with asyncio.timeout(_FLUSH_S):
                for event in lost:
                    await event.wait()
        except TimeoutError:
            for connection in open_still:
                connection.transport.abort()


async def _finish(tasks: set[asyncio.Task[None]], timeout_s: float | None) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks), timeout=timeout_s)
