"""Cancels over restarts, other routers and lost connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from router.doubles.mqtt_broker import Broker
from router.ingress.cancels.mqtt import Cancels
from router.ingress.mqtt import MqttOptions
from router.ingress.mqtt_client import Disconnected, MqttConnection
from router.ingress.mqtt_replies import STRIKES, Replies
from tests.unit.mqtt_site import Site, cancel
from tests.unit.mqtt_world import WAIT_S, code


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Broker() as broker:
        world = Site(broker, tmp_path)
        yield world
        await world.end()


async def test_nothing_comes_back_after_a_restart(site: Site) -> None:
    """The next life neither calls a model nor replies again."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    cancel(producer)
    assert code(await producer.one()) == "cancelled"
    await site.idle()
    await site.kill()
    await site.listening()
    assert site.sink.count("recovered") == 0
    assert await producer.so_far() == []
    assert len(site.dispatch.calls) == 1


async def test_a_cancel_that_was_written_is_told_by_the_next_life(site: Site) -> None:
    """The process ends between the journal and the sender: the sender is told all the same, and no model is called."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer(topic="elsewhere")
    producer.ask()
    await site.dispatch.called()
    site.journal.hold = "delivered"
    cancel(producer)
    await site.journal.entered.wait()
    await site.kill()
    assert await site.unfinished() == ["r1"]
    site.journal.hold = ""
    producer = await site.producer("back")
    await site.listening()
    assert code(await producer.one()) == "cancelled"
    assert len(site.dispatch.calls) == 1


async def test_a_request_of_a_former_life_is_taken_back(site: Site) -> None:
    """It came out of the journal, not from the broker."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    await site.kill()
    await site.listening()
    await site.dispatch.called()
    cancel(producer)
    assert code(await producer.one()) == "cancelled"


async def test_a_stop_in_the_middle_of_a_cancel_leaves_the_request_to_the_next_life(site: Site) -> None:
    """Nothing was told yet, so nothing is lost."""
    site.dispatch.gate.clear()
    site.dispatch.may_end.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    cancel(producer)
    await site.dispatch.ending.wait()
    await site.kill()
    assert await site.unfinished() == ["r1"]


async def test_every_router_of_a_group_hears_a_cancel(site: Site, tmp_path: Path) -> None:
    """Whoever has the request ends it; for the other it waits for a request."""
    other = Site(site.broker, tmp_path, "second")
    routers = (site, other)
    for one in routers:
        one.dispatch.gate.clear()
        await one.listening()
    producer = await site.producer()
    for number in range(2):
        producer.ask(f"r{number}")
    async with asyncio.timeout(WAIT_S):
        while len(site.dispatch.calls) + len(other.dispatch.calls) < 2:
            await asyncio.sleep(0)
    for number in range(2):
        cancel(producer, b"", ("request-id", f"r{number}"))
    assert {code(told) for told in await producer.get(2)} == {"cancelled"}
    assert (len(site.dispatch.ended), len(other.dispatch.ended)) == (1, 1)
    for one in routers:
        await one.sink.saw("cancel_early")
    await other.end()


async def test_it_subscribes_again_at_every_connection(site: Site) -> None:
    """A broker that was away has forgotten."""
    site.dispatch.gate.clear()
    ingress = await site.listening()
    await site.broker.stop()
    for source in ("mqtt", "mqtt_replies"):
        await site.sink.saw("disconnected", 1, source)
    await site.broker.start()
    await site.heard(ingress)
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    cancel(producer)
    assert code(await producer.one()) == "cancelled"


class Grudging:
    """In the place of a connection: the broker ends it over the subscription, or refuses that."""

    def __init__(self, *, ends: bool) -> None:
        self.closed: asyncio.Future[Disconnected] = asyncio.get_running_loop().create_future()
        self.tried = asyncio.Event()
        self._ends = ends

    async def subscribe(self, filters: tuple[str, ...]) -> None:
        self.tried.set()
        reason = Disconnected("not authorized", 0x87)
        if self._ends:
            self.closed.set_result(reason)
        raise reason


@pytest.mark.parametrize(("ends", "tries", "told"), [(True, STRIKES, 1), (False, 5, 5)])
async def test_a_broker_that_forbids_it_costs_the_cancels_alone(ends: bool, tries: int, told: int) -> None:
    """One that ends the connection over it is not asked for ever: the replies need that connection."""
    replies = Replies(MqttOptions(), lambda event: None, lambda: 0.0, cast("object", None))  # type: ignore[arg-type]
    events: list[str] = []
    cancels = Cancels(MqttOptions(), replies, lambda key: "", lambda: None, lambda what, detail: events.append(what))
    running = asyncio.create_task(cancels.run())
    tried = 0
    for _ in range(5):
        connection = Grudging(ends=ends)
        replies._connection = cast(MqttConnection, connection)
        replies.on_connect[0]()
        for _ in range(5):
            await asyncio.sleep(0)
        tried += connection.tried.is_set()
    running.cancel()
    await asyncio.wait((running,))
    assert (tried, events) == (tries, ["refused"] * told)
    assert not cancels.is_listening
