"""Requests taken back over the queue, against the embedded broker, with a dispatcher that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from router.domain.errors import Rejected
from router.domain.outcome import Delta, Receipt
from router.domain.request import Prompt, Request, RequestId
from router.doubles.mqtt_broker import Broker
from router.ingress.mqtt_replies import Replies
from router.ingress.mqtt_stream import WINDOW, StreamReply
from router.ports.journal import Asker
from tests.unit.mqtt_site import Site, cancel
from tests.unit.mqtt_world import PIECES, STREAM, code, content, fields


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Broker() as broker:
        world = Site(broker, tmp_path)
        yield world
        await world.end()


async def test_a_request_under_way_is_taken_back(site: Site) -> None:
    """Its call ends, the sender is told `cancelled`, and a second message under the id is told the same at no call."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    cancel(producer)
    told = await producer.one()
    assert (code(told), fields(told)["request-id"], told.correlation_data) == ("cancelled", "r1", b"c1")
    assert site.dispatch.ended == ["r1"]
    producer.ask()
    assert content(await producer.one()) == content(told)
    assert (len(site.dispatch.calls), site.sink.count("cancelled")) == (1, 1)
    await site.idle()
    assert await site.unfinished() == []


async def test_a_stream_ends_with_the_cancel(site: Site) -> None:
    """After the pieces that were sent, in order; the error is the final one."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask(body=STREAM)
    first = await producer.one()
    cancel(producer)
    last = await producer.one()
    assert [(fields(piece)["seq"], fields(piece)["final"]) for piece in (first, last)] == [
        ("0", "false"),
        ("1", "true"),
    ]
    assert code(last) == "cancelled"


async def test_all_who_ask_under_the_id_are_told(site: Site) -> None:
    """A second message that had joined the first does not wait for ever."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    producer.ask(response_topic="replies/2")
    await site.sink.saw("duplicate")
    cancel(producer)
    assert {(told.topic, code(told)) for told in await producer.get(2)} == {
        ("replies/1", "cancelled"),
        ("replies/2", "cancelled"),
    }


async def test_a_cancel_goes_through_while_there_is_no_room(site: Site) -> None:
    """Requests stay at the broker then; a cancel must not stay behind them."""
    site.options = replace(site.options, receive_maximum=1)
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.sink.saw("paused")
    cancel(producer)
    assert code(await producer.one()) == "cancelled"


async def test_an_answer_that_was_made_stays(site: Site) -> None:
    """A cancel after it is counted, and the id answers as before."""
    await site.listening()
    producer = await site.producer()
    producer.ask()
    answer = await producer.one()
    await site.idle()
    cancel(producer)
    await site.sink.saw("cancel_early")
    producer.ask()
    assert content(await producer.one()) == content(answer)
    assert site.sink.count("cancelled") == 0


async def test_an_answer_on_its_way_stays(site: Site) -> None:
    """A cancel between the answer and its delivery neither takes it back nor hits a later request under the id."""
    site.journal.hold = "delivered"
    await site.listening()
    producer = await site.producer()
    site.dispatch.errors.append(Rejected("full", code="queue_full"))
    producer.ask()
    assert code(await producer.one()) == "queue_full"
    await site.journal.entered.wait()
    site.journal.gate.set()
    await site.idle()
    site.journal.hold = "answered"
    site.journal.entered.clear()
    site.journal.gate.clear()
    producer.ask()
    await site.journal.entered.wait()
    cancel(producer)
    await site.sink.saw("cancel_early")
    site.journal.gate.set()
    assert fields(await producer.one())["router-decision-id"] == "d-1"


async def test_a_cancel_wins_over_the_error_it_ends_in(site: Site) -> None:
    """A router that drains, or a call that fails, at that moment: an error that may pass would free the id."""
    site.dispatch.gate.clear()
    site.dispatch.instead = Rejected("stopping", code="draining")
    await site.listening()
    producer = await site.producer()
    producer.ask()
    await site.dispatch.called()
    cancel(producer)
    cancel(producer)
    assert code(await producer.one()) == "cancelled"
    assert site.dispatch.ended == ["r1"]


class Slow:
    """In the place of `Replies`: what is posted is acknowledged later."""

    def __init__(self) -> None:
        self.posted: list[asyncio.Future[int | None]] = []

    def post(self, *_: object) -> asyncio.Future[int | None]:
        self.posted.append(asyncio.get_running_loop().create_future())
        return self.posted[-1]


async def test_a_stream_that_is_cut_while_it_waits_knows_what_was_sent() -> None:
    """Every piece counts once when its acknowledgement comes: none is published again."""
    replies = Slow()
    request = Request(RequestId("r1"), 0.0, 0.0, Prompt("hello"), 1, stream=True)
    stream = StreamReply(request, Asker("t", None), cast(Replies, replies), created=0, is_restarted=False)

    async def talk() -> None:
        await stream.begin(Receipt("d", "small", "m", "p", 1, 0.0, 0.0))
        for _ in range(2 * WINDOW):
            await stream.delta(Delta(PIECES[0], 1))

    talking = asyncio.create_task(talk())
    while len(replies.posted) < WINDOW:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    talking.cancel()
    await asyncio.wait((talking,))
    for posted in replies.posted:
        if not posted.done():
            posted.set_result(0)
    await stream.settle()
    assert stream.sent == len(replies.posted)
