"""When the queue's door stops reading, and when it goes on: nothing is refused or lost meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.domain.errors import JournalError
from tests.unit.mqtt_world import HELLO, Worlds, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_reading_stops_while_the_dispatcher_has_no_room(worlds: Worlds) -> None:
    """Nothing is refused or lost: the broker keeps it, and it is taken in when there is room."""
    async with worlds() as world:
        world.dispatch.room = False
        await world.start(wait=False)
        producer = await world.producer()
        world.dispatch.room = True
        await world.sink.saw("connected")
        world.dispatch.room = False
        for number in range(200):
            producer.ask(f"r{number}", body=HELLO.replace(b"hello", b"h" * 2000))
        await world.sink.saw("paused")
        await producer.client.flushed()
        await producer.get(1)
        assert len(world.dispatch.calls) < 200
        world.dispatch.room = True
        await producer.get(199)
        assert len({call.id for call in world.dispatch.calls}) == 200
        assert world.sink.count("resumed") >= 1


async def test_no_more_is_open_than_the_window(worlds: Worlds) -> None:
    """With the dispatcher slow the broker holds the rest; replies go out and are confirmed all the while."""
    async with worlds(receive_maximum=4) as world:
        world.dispatch.gate.clear()
        ingress = await world.start()
        producer = await world.producer()
        for number in range(40):
            producer.ask(f"r{number}")
        await world.dispatch.called(4)
        await world.sink.saw("paused")
        assert ingress.open_requests <= 4 + 1
        world.dispatch.gate.set()
        assert {fields(reply)["request-id"] for reply in await producer.get(40)} == {f"r{n}" for n in range(40)}


async def test_who_waits_for_a_budget_takes_no_place_in_the_window(worlds: Worlds) -> None:
    """Three that wait for the next day leave room for four others beside them."""
    async with worlds(receive_maximum=4) as world:
        world.dispatch.gate.clear()
        world.dispatch.held_now = 3
        await world.start()
        producer = await world.producer()
        for number in range(40):
            producer.ask(f"r{number}")
        await world.dispatch.called(7)
        world.dispatch.gate.set()
        await producer.get(40)


async def test_a_journal_that_refuses_stops_the_reading_until_it_takes_more(worlds: Worlds) -> None:
    """No message is acknowledged or lost meanwhile."""
    async with worlds() as world:
        world.journal.hold, world.journal.error = "receive", JournalError("disk full")
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.sink.saw("journal_failed", 3)
        assert world.broker.stats.acknowledged == 0
        world.journal.gate.set()
        world.journal.error = None
        assert fields(await producer.one())["request-id"] == "r1"
        assert any("disk full" in event.detail for event in world.sink.events)
        producer.ask("r2")
        await producer.one()
