"""Requests taken back over the queue, against the embedded broker, with a dispatcher that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from router.domain.errors import Rejected, RequestError
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Prompt, Request, RequestId
from router.doubles.mqtt_broker import Broker
from router.ingress.cancels.early import REMEMBER_MAX, REMEMBER_S, EarlyCancels
from router.ingress.cancels.mqtt import Cancels
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ingress.mqtt_client import Disconnected, MqttConnection
from router.ingress.mqtt_replies import STRIKES, Replies
from router.ingress.mqtt_stream import WINDOW, StreamReply
from router.ports.dispatch import Responder
from router.ports.journal import Asker
from router.storage.journal import SqliteJournal
from router.wire.mqtt import read_cancel
from router.wire.mqtt_packet import Publish
from tests.unit.test_mqtt_ingress import PIECES, STREAM, WAIT_S, Dispatcher, Producer, World, code, content, fields

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


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Broker() as broker:
        world = Site(broker, tmp_path)
        yield world
        await world.end()


def cancel(producer: Producer, payload: bytes = CANCEL, *properties: tuple[str, str]) -> None:
    """Take a request back."""
    producer.client.publish(TOPIC, payload, qos=1, user_properties=list(properties))


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


@pytest.mark.parametrize(
    ("payload", "properties"),
    [
        (CANCEL, (("tenant", "acme"),)),
        (b'{"request_id":"r1","tenant":"acme"}', ()),
        (b"", (("request-id", "r1"), ("tenant", "acme"))),
    ],
)
async def test_a_cancel_may_come_before_its_request(
    site: Site, payload: bytes, properties: tuple[tuple[str, str], ...]
) -> None:
    """The broker does not order them. The request is never begun, and it alone."""
    await site.listening()
    producer = await site.producer()
    cancel(producer, payload, *properties)
    await site.sink.saw("cancel_early")
    producer.ask(properties=[("tenant", "acme")])
    assert code(await producer.one()) == "cancelled"
    assert site.dispatch.calls == []
    assert [site.sink.count(what) for what in ("cancel_early", "cancelled", "cancel_unknown")] == [1, 1, 0]
    producer.ask()
    assert "router-decision-id" in fields(await producer.one())


async def test_an_early_cancel_is_forgotten_after_a_while(site: Site) -> None:
    """A request that comes later than that is served."""
    await site.listening()
    producer = await site.producer()
    cancel(producer)
    await site.sink.saw("cancel_early")
    site.clock.pass_by(REMEMBER_S + 1.0)
    producer.ask()
    assert "router-decision-id" in fields(await producer.one())
    assert [site.sink.count(what) for what in ("cancel_early", "cancelled", "cancel_unknown")] == [1, 0, 1]


async def test_another_tenant_takes_nothing_back(site: Site) -> None:
    """An id belongs to its tenant."""
    site.dispatch.gate.clear()
    await site.listening()
    producer = await site.producer()
    producer.ask(properties=[("tenant", "acme")])
    await site.dispatch.called()
    cancel(producer, CANCEL, ("tenant", "other"))
    cancel(producer)
    await site.sink.saw("cancel_early", 2)
    site.dispatch.gate.set()
    assert "router-decision-id" in fields(await producer.one())


async def test_a_malformed_cancel_is_counted_and_harms_nobody(site: Site) -> None:
    """It is acknowledged like any other."""
    await site.listening()
    producer = await site.producer()
    cancel(producer, b"rubbish")
    cancel(producer, b"{}")
    await site.sink.saw("invalid", 2)
    producer.ask()
    await producer.one()
    assert site.broker.stats.redelivered == 0


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
    await site.sink.saw("disconnected", 1, "mqtt_replies")
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


def test_early_cancels_are_bounded() -> None:
    """The oldest goes first; each is taken once, or given up once: for age, for room, or for its own repetition."""
    now = [0.0]
    given_up: list[float] = []
    early = EarlyCancels(lambda: now[0], lambda: given_up.append(now[0]))
    for number in range(REMEMBER_MAX + 1):
        early.remember(str(number))
    assert len(given_up) == 1
    assert [early.take(key) for key in ("0", "1", "1", str(REMEMBER_MAX))] == [False, True, False, True]
    now[0] = REMEMBER_S + 1.0
    assert not early.take("2")
    assert len(given_up) == REMEMBER_MAX - 1
    early.remember("new")
    now[0] += REMEMBER_S
    assert early.take("new")
    early.remember("again")
    early.remember("again")
    early.forget_old()
    assert len(given_up) == REMEMBER_MAX
    now[0] += REMEMBER_S + 1.0
    early.forget_old()
    early.forget_old()
    assert len(given_up) == REMEMBER_MAX + 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"r1",
        b"[]",
        b"{}",
        b"\xff",
        b'{"request_id":""}',
        b'{"request_id":7}',
        b'{"request_id":"r","tenant":""}',
        b'{"request_id":"' + b"x" * 257 + b'"}',
    ],
)
def test_a_malformed_cancel_is_refused(payload: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(RequestError):
        read_cancel(Publish(TOPIC, payload))


def test_a_property_names_the_request_before_the_body() -> None:
    """The tenant may be a property though the id is in the body, as where a client sets it on all it sends."""
    by_property = read_cancel(Publish(TOPIC, CANCEL, properties=(("request-id", "r2"), ("tenant", "t"))))
    by_body = read_cancel(Publish(TOPIC, CANCEL, properties=(("tenant", "t"),)))
    assert (by_property.request_id, by_property.tenant) == ("r2", "t")
    assert (by_body.request_id, by_body.tenant) == ("r1", "t")
