"""The OpenAI-compatible front door.

POST /v1/chat/completions and /v1/fanout go straight to their route, everything else takes the way through Starlette.
Loopback unless told otherwise. Keys, where there are any, guard /v1/*; metrics and health stay open. What is an
operator's business alone asks for an operator's key: `ingress.admin.doorkeeper`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from router.ingress.admin.doorkeeper import Doorkeeper, is_loopback
from router.ingress.http_admin import CHAT_PATH, AdminRoutes, DecisionPage, MetricsPage, PolicyPage
from router.ingress.http_answers import Receive, Scope, Send
from router.ingress.http_chat import FANOUT_PATH, ChatOptions, ChatRoute
from router.ingress.http_server import HttpServer
from router.ports.dispatch import Dispatch, EventSink
from router.ports.learned import LearnedState


class HttpOptions(Struct, frozen=True):
    """Where to listen and what to bear. `port=0` takes a free one; `api_keys=None` admits everyone."""

    host: str = "127.0.0.1"
    port: int = 8080
    body_limit_bytes: int = 4 * 1024 * 1024
    api_keys: frozenset[str] | None = None
    admin_keys: frozenset[str] | None = None
    """Keys of operators, good on every route but those that take requests."""
    keepalive_s: float = 75.0

    @property
    def lets_anyone_in(self) -> bool:
        """Whether other machines may ask without a key."""
        return self.api_keys is None and not is_loopback(self.host)


class HttpIngress:
    """HTTP in, `Dispatch` behind. `app` is the ASGI application; `port` is real once `start` has returned."""

    def __init__(
        self,
        options: HttpOptions,
        dispatch: Dispatch,
        sink: EventSink,
        metrics: MetricsPage,
        *,
        decisions: DecisionPage | None = None,
        policy: PolicyPage | None = None,
        learned: LearnedState | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chat = ChatRoute(
            ChatOptions(options.body_limit_bytes, options.api_keys), dispatch, sink, now=now, at=time.time
        )
        admin = AdminRoutes(
            dispatch,
            keys=Doorkeeper(options.api_keys, options.admin_keys, host=options.host),
            metrics=metrics,
            decisions=decisions,
            policy=policy,
            learned=learned,
            started_at=time.time(),
        )
        self._rest = admin.app(self._chat)
        self._server = HttpServer(self.app, host=options.host, port=options.port, keepalive_s=options.keepalive_s)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["path"] in (CHAT_PATH, FANOUT_PATH) and scope["method"] == "POST":
            await self._chat(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def start(self) -> None:
        """Bind and serve; `OSError` where the address cannot be had."""
        await self._server.start()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Refuse new calls, let running ones finish for `grace_s`, then end them with an error."""
        self._chat.drain()
        await self._server.stop(grace_s=grace_s, cut=self._chat.cut)
