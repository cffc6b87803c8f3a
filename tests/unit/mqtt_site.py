"""A router at the queue that hears cancels, with a dispatcher whose calls can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from router.domain.outcome import Reply
from router.domain.request import Request
from router.doubles.mqtt_broker import Broker
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ports.dispatch import Responder
from router.storage.journal import SqliteJournal
from tests.unit.mqtt_world import WAIT_S, Dispatcher, Producer, World

TOPIC = "router/cancel"
CANCEL = b'{"request_id":"r1"}'


class Cancelling(Dispatcher):
    """Notes which calls were cancelled; each takes until `may_end` to end, and then ends as `instead` says."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []
        self.ending, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        self.instead: Exception | None = None

    async def submit(
        self,
        request: Request,
        responder: Responder | None = None,
        *,
        on_call: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        try:
            return await super().submit(request, responder, on_call=on_call)
        except asyncio.CancelledError:
            self.ended.append(request.id)
            self.ending.set()
            await self.may_end.wait()
            if self.instead is not None:
                raise self.instead from None
            raise


class Site(World):
    """A world whose dispatcher can be cancelled."""

    dispatch: Cancelling

    def __init__(self, broker: Broker, folder: Path, name: str = "router") -> None:
        options = MqttOptions(url=broker.url, client_id=name, backoff_min_s=0.005, backoff_max_s=0.01)
        super().__init__(broker, SqliteJournal(folder / f"{name}.db", synchronous="OFF"), options)
        self.dispatch = Cancelling()

    async def listening(self) -> MqttIngress:
        """A life of the router that hears cancels."""
        ingress = await self.start()
        await self.heard(ingress)
        return ingress

    async def heard(self, ingress: MqttIngress) -> None:
        """Until requests and cancels can come."""
        async with asyncio.timeout(WAIT_S):
            while not (ingress.is_connected and ingress.cancels.is_listening):
                await asyncio.sleep(0)

    async def unfinished(self) -> list[str]:
        return [entry.received.request_id for entry in await self.sqlite.unfinished()]


def cancel(producer: Producer, payload: bytes = CANCEL, *properties: tuple[str, str]) -> None:
    """Take a request back."""
    producer.client.publish(TOPIC, payload, qos=1, user_properties=list(properties))
