"""Listens for cancels. Every router hears every one, for only one of them has the request.

They come by the connection of the replies, which never stops reading: a request is taken back above all while the
router has no room for others. That connection keeps no session, so a cancel that is published while no router is
there is lost; the sender sees that no reply with `cancelled` comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.domain.errors import RequestError
from router.ingress.cancels.early import EARLY
from router.ingress.mqtt_client import Disconnected, MqttConnection
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_replies import STRIKES, Replies
from router.ports.journal import key_of
from router.wire.mqtt import read_cancel
from router.wire.mqtt_packet import Publish

_TICK_S = 1.0


class Cancels:
    """`cancel` takes the journal's key of a request, and says what happened; empty where a request is taken back, which
    is told when it ends. `forget_old` gives up what waited for a request in vain, and says in how many seconds the next
    will have. A broker that lets nobody subscribe here costs the cancels alone."""

    def __init__(
        self,
        options: MqttOptions,
        replies: Replies,
        cancel: Callable[[str], str],
        forget_old: Callable[[], float | None],
        event: Callable[[str, str], None],
    ) -> None:
        self._options, self._replies, self._cancel, self._event = options, replies, cancel, event
        self._forget_old = forget_old
        self._forgetting: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._subscribed: MqttConnection | None = None
        replies.on_connect.append(self._due.set)
        replies.listen(options.cancel_topic, self._take)

    @property
    def is_listening(self) -> bool:
        """Subscribed: cancels can come."""
        return self._subscribed is not None and self._subscribed is self._replies.connection

    async def run(self) -> None:
        """Subscribe at every connection, until cancelled. After three connections that ended over it, no more."""
        try:
            await self._stay_subscribed()
        finally:
            if self._forgetting is not None:
                self._forgetting.cancel()

    async def _stay_subscribed(self) -> None:
        strikes = 0
        while True:
            await self._due.wait()
            self._due.clear()
            connection = self._replies.connection
            if connection is None or strikes >= STRIKES:
                continue
            try:
                await connection.subscribe((self._options.cancel_topic,))
                self._subscribed, strikes = connection, 0
            except Disconnected as error:
                if connection.closed.done():
                    strikes += 1
                elif error.code is None:
                    await asyncio.sleep(self._options.backoff_max_s)
                    self._due.set()
                if strikes in (0, STRIKES):
                    self._event("refused", f"subscription to cancels: {error.detail}")

    def _take(self, message: Publish) -> None:
        try:
            asked = read_cancel(message)
        except RequestError as error:
            self._event("invalid", f"cancel: {error.code}")
            return
        what = self._cancel(key_of(asked.tenant, asked.request_id))
        if what:
            self._event(what, "nothing is open under that id here")
        if what == EARLY and self._forgetting is None:
            self._forget()

    def _forget(self) -> None:
        """Look again when the next has waited long enough, while any waits."""
        left_s = self._forget_old()
        self._forgetting = None
        if left_s is not None:
            self._forgetting = asyncio.get_running_loop().call_later(left_s + _TICK_S, self._forget)
