"""The embedded broker as it is started and stopped."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from types import TracebackType

import structlog
from mqtt5 import DisconnectReasonCode

from router.doubles.kept_port import keep_port
from router.doubles.mqtt_broker.connection import Connection
from router.doubles.mqtt_broker.exchange import Exchange
from router.doubles.mqtt_broker.faults import Faults, Limits, Stats

_SWEEP_INTERVAL_S = 0.25
_STOP_TIMEOUT_S = 1.0

_log = structlog.get_logger(__name__)


class Broker:
    """A small MQTT 5 broker for demo, development and tests. It is NOT for production: no authentication, no
    TLS, no persistence, one process, loopback only.

    `port` 0 takes a free one at the first start and keeps it over restarts; `port` and `url` are known once
    started. `faults` may be changed in place at any time. `clock` is monotonic seconds: it ages messages, sessions and
    silent connections, which are looked at every quarter of a second or when `sweep` is called.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = _loopback(host)
        self.port = port
        self.faults = faults or Faults()
        self.limits = limits or Limits()
        self.stats = Stats()
        self._clock = clock
        self._exchange = self._new_exchange()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._let_go_of_port: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Where clients connect: `mqtt://127.0.0.1:PORT`."""
        return f"mqtt://[{self.host}]:{self.port}" if ":" in self.host else f"mqtt://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen. `RuntimeError` where it listens already, `OSError` where the port is taken."""
        if self._server is not None:
            raise RuntimeError("the broker is already started")
        loop = asyncio.get_running_loop()
        self._let_go_of_port()
        self._server = await loop.create_server(
            lambda: Connection(self._exchange, self._connections), self.host, self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._schedule_sweep()
        _log.warning("mqtt_broker_started", url=self.url, note="embedded broker, not for production")

    async def stop(self, *, keep_sessions: bool = False) -> None:
        """Tell every client (0x8B), close, and forget everything, or keep it as a broker with persistence does.

        Either way the broker can be started again, on the same port.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        if self._sweeper is not None:
            self._sweeper.cancel()
        server.close()
        self._let_go_of_port = keep_port(self, self.host, self.port)
        await self._close_connections()
        await server.wait_closed()
        if not keep_sessions:
            self._exchange = self._new_exchange()
        _log.info("mqtt_broker_stopped", url=self.url, sessions_kept=keep_sessions)

    def sweep(self) -> None:
        """End overdue sessions, publish wills that are due and close silent connections, by the clock now."""
        now = self._clock()
        for connection in tuple(self._connections):
            connection.check(now)
        self._exchange.sweep()

    async def __aenter__(self) -> Broker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _new_exchange(self) -> Exchange:
        return Exchange(limits=self.limits, faults=self.faults, stats=self.stats, clock=self._clock)

    def _schedule_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_INTERVAL_S, self._sweep_and_go_on)

    def _sweep_and_go_on(self) -> None:
        self.sweep()
        self._schedule_sweep()

    async def _close_connections(self) -> None:
        """Close all in good order; a client that does not read is cut off after a second."""
        open_now = tuple(self._connections)
        if not open_now:
            return
        for connection in open_now:
            connection.disconnect(DisconnectReasonCode.SERVER_SHUTTING_DOWN)
        _, pending = await asyncio.wait([c.lost for c in open_now], timeout=_STOP_TIMEOUT_S)
        if pending:
            for connection in tuple(self._connections):
                connection.abort()
            await asyncio.wait(pending)


def _loopback(host: str) -> str:
    """`host` as an address, or `ValueError` where it is not on loopback. `localhost` becomes 127.0.0.1."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"the embedded broker serves loopback only (127.0.0.0/8, ::1, localhost), not {host!r}")
