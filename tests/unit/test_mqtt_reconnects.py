"""Connections to the broker that end, are refused or are not there: every request is answered, and called once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from router.ingress.mqtt_replies import Refused, Replies
from router.ports.journal import Asker, Published
from tests.unit.mqtt_world import WAIT_S, Worlds, content, fields, worlds_in


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    return worlds_in(tmp_path)


async def test_an_orderly_broker_restart_loses_nothing(worlds: Worlds) -> None:
    """Replies wait for the new connection; the session is resumed with what came in the meantime."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask("before")
        await world.dispatch.called()
        await world.broker.stop(keep_sessions=True)
        world.dispatch.gate.set()
        await world.sink.saw("disconnected")
        await world.broker.start()
        producer = await world.producer()
        producer.ask("after")
        replies = {fields(reply)["request-id"] for reply in await producer.get(2)}
        assert replies == {"before", "after"}
        await world.sink.saw("connected", 2)
        assert world.broker.stats.resumed >= 1
        assert len(world.dispatch.calls) == 2


async def test_a_lost_session_is_subscribed_anew(worlds: Worlds) -> None:
    """A broker that has forgotten everything gets the subscriptions again."""
    async with worlds() as world:
        await world.start()
        await world.broker.stop()
        await world.broker.start()
        await world.sink.saw("connected", 2)
        producer = await world.producer()
        producer.ask()
        await producer.one()


async def test_an_unacknowledged_message_comes_again_and_is_called_once(worlds: Worlds) -> None:
    """The connection breaks before the PUBACK leaves: the redelivery joins what is under way."""
    async with worlds() as world:
        world.journal.hold = "receive"
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        world.broker.faults.cut_after_publishes["router"] = 1
        producer.ask()
        await world.journal.entered.wait()
        await world.sink.saw("disconnected")
        world.journal.gate.set()
        await world.sink.saw("redelivered")
        world.dispatch.gate.set()
        await producer.one()
        producer.ask("r2")
        assert fields(await producer.one())["request-id"] == "r2"
        assert [call.id for call in world.dispatch.calls] == ["r1", "r2"]


async def test_replies_that_the_broker_did_not_confirm_are_published_again(worlds: Worlds) -> None:
    """The producer may see a reply twice, the same both times; it is never without."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        world.broker.faults.cut_after_packets["router-replies"] = 1
        producer.ask()
        first, second = await producer.get(2)
        assert content(first) == content(second)
        assert len(world.dispatch.calls) == 1


async def test_a_publish_that_ends_the_connection_is_given_up_and_spares_the_others(worlds: Worlds) -> None:
    """The broker drops the connection over one topic: that publish is refused, those beside it arrive."""
    async with worlds() as world:
        producer = await world.producer()
        replies = Replies(world.options, world.sink.emit, lambda: 0.0, Random(1))
        run = asyncio.create_task(replies.run())
        reply = Published(b"{}", ())
        sends = [asyncio.create_task(replies.send(Asker(f"replies/{number}", None), reply)) for number in range(5)]
        poison = asyncio.create_task(replies.send(Asker("replies/+", None), reply))
        with pytest.raises(Refused):
            await asyncio.wait_for(poison, WAIT_S)
        await asyncio.wait_for(asyncio.gather(*sends), WAIT_S)
        topics = set[str]()
        while len(topics) < 5:
            topics.add((await producer.one()).topic)
        run.cancel()
        await asyncio.wait((run,))


async def test_a_broker_that_is_not_there_is_waited_for(worlds: Worlds) -> None:
    """With backoff, and each failure said."""
    async with worlds() as world:
        await world.broker.stop()
        await world.start(wait=False)
        await world.sink.saw("disconnected", 3)
        await world.broker.start()
        await world.sink.saw("connected")
        producer = await world.producer()
        producer.ask()
        await producer.one()
