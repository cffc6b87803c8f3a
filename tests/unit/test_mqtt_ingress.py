"""The queue's door, over real sockets against the embedded broker, with a dispatcher that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import mqtt5
import pytest

from router.domain.deployment import Deployment
from router.domain.errors import Expired, JournalError, Rejected, RequestError, RouterError, Throttled
from router.domain.events import Event, IngressEvent
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.doubles.mqtt_broker import Broker, Limits, RawClient
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ingress.mqtt_exchange import sticks
from router.ingress.mqtt_replies import Refused, Replies
from router.ports.dispatch import Responder
from router.ports.journal import Asker, Published, Received
from router.storage.journal import SqliteJournal
from router.wire.mqtt import content_id
from router.wire.mqtt_packet import Publish

WAIT_S = 60.0
HELLO = b'{"messages":[{"role":"user","content":"hello"}]}'
STREAM = b'{"stream":true,"messages":[{"role":"user","content":"hello"}]}'
WHOLE = b'[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]'
PIECES = (b'[{"index":0,"delta":{"content":"h"}}]', b'[{"index":0,"delta":{"content":"i"}}]')


class Sink:
    """Counts what happened and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[IngressEvent] = []
        self._news = asyncio.Event()

    def emit(self, event: Event) -> None:
        assert isinstance(event, IngressEvent)
        self.events.append(event)
        self._news.set()

    def count(self, what: str, source: str = "mqtt") -> int:
        return sum(event.count for event in self.events if (event.what, event.source) == (what, source))

    async def saw(self, what: str, times: int = 1, source: str = "mqtt") -> None:
        async with asyncio.timeout(WAIT_S):
            while self.count(what, source) < times:
                self._news.clear()
                await self._news.wait()


class Dispatcher:
    """Answers at once, or when `gate` opens; raises what `errors` holds first; remembers every call."""

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.errors: list[RouterError | Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.room = True
        self.held_now = 0
        self.feedbacks: list[tuple[str, float]] = []
        self.arrivals = asyncio.Semaphore(0)

    async def submit(
        self,
        request: Request,
        responder: Responder | None = None,
        *,
        on_call: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        if self.errors and isinstance(self.errors[0], Rejected):
            raise self.errors.pop(0)
        assert on_call is not None
        await on_call()
        self.calls.append(request)
        number = len(self.calls)
        self.arrivals.release()
        receipt = Receipt(f"d-{number}", "small-a", "llama", "p1", 1 + request.attempts_before, 0.001, 0.0002)
        if responder is not None:
            await responder.begin(receipt)
            await responder.delta(Delta(PIECES[0], 1))
            self.arrivals.release()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if responder is not None:
            await responder.delta(Delta(PIECES[1], 1))
        return Reply(request, WHOLE, Usage(3, 2), receipt, created=1_700_000_000)

    async def called(self, times: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            for _ in range(times):
                await self.arrivals.acquire()

    def feedback(self, decision_id: str, quality: float) -> bool:
        self.feedbacks.append((decision_id, quality))
        return decision_id == "d-1"

    def deployments(self) -> tuple[Deployment, ...]:
        return ()

    def classes(self) -> tuple[str, ...]:
        return ()

    def is_ready(self) -> tuple[bool, str]:
        return True, ""

    def has_room(self) -> bool:
        return self.room

    def held(self, source: str) -> int:
        return self.held_now


class Held:
    """A journal whose chosen write waits for `gate`, or fails while `error` is set."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self.hold = ""
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.error: JournalError | None = None

    def __getattr__(self, name: str) -> Any:
        write = getattr(self._journal, name)
        if name != self.hold:
            return write

        async def held(*args: Any, **kwargs: Any) -> Any:
            self.entered.set()
            if self.error is not None:
                raise self.error
            await self.gate.wait()
            return await write(*args, **kwargs)

        return held

    @property
    def backlog(self) -> int:
        return self._journal.backlog


class Clock:
    """Monotonic and wall time that a test moves."""

    def __init__(self) -> None:
        self.now, self.at = 50.0, 1_700_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.now, self.at = self.now + seconds, self.at + seconds


class Producer:
    """A client with one reply topic; keeps PUBACKs and messages apart."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.messages: list[mqtt5.PublishPacket] = []

    def ask(self, request_id: str | None = "r1", body: bytes = HELLO, **options: Any) -> None:
        properties = [] if request_id is None else [("request-id", request_id)]
        properties += options.pop("properties", [])
        options = {"response_topic": "replies/1", "correlation_data": b"c1"} | options
        self.client.publish("router/requests/chat", body, qos=1, user_properties=properties, **options)

    async def get(self, count: int = 1) -> list[mqtt5.PublishPacket]:
        """The next messages, acknowledged."""
        while len(self.messages) < count:
            packet = await self.client.receive()
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.messages.append(packet)
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    async def so_far(self) -> list[mqtt5.PublishPacket]:
        """What the broker has sent until now, acknowledged."""
        self.client.send(mqtt5.PingReqPacket())
        while not isinstance(packet := await self.client.receive(), mqtt5.PingRespPacket):
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.messages.append(packet)
        taken, self.messages = self.messages, []
        return taken

    async def one(self) -> mqtt5.PublishPacket:
        return (await self.get())[0]


class World:
    """Everything of one test."""

    def __init__(self, broker: Broker, journal: SqliteJournal, options: MqttOptions) -> None:
        self.broker, self.sqlite, self.options = broker, journal, options
        self.journal = Held(journal)
        self.dispatch, self.sink, self.clock = Dispatcher(), Sink(), Clock()
        self._runs: list[tuple[MqttIngress, asyncio.Task[None]]] = []
        self._clients: list[RawClient] = []

    def make(self) -> MqttIngress:
        clock = self.clock
        return MqttIngress(
            self.options,
            self.dispatch,
            self.journal,
            self.sink,
            monotonic=lambda: clock.now,
            wall=lambda: clock.at,
            rng=Random(1),
        )

    async def start(self, *, wait: bool = True) -> MqttIngress:
        ingress = self.make()
        sources = {source: self.sink.count("connected", source) for source in ("mqtt", "mqtt_replies")}
        self._runs.append((ingress, asyncio.create_task(ingress.run())))
        if wait:
            for source, before in sources.items():
                await self.sink.saw("connected", before + 1, source)
        return ingress

    async def idle(self) -> None:
        """Until every message taken in is done with."""
        async with asyncio.timeout(WAIT_S):
            while any(ingress.open_requests for ingress, _ in self._runs):
                await asyncio.sleep(0)

    async def kill(self) -> None:
        """End the ingress without grace, as far as a live process can."""
        for ingress, run in self._runs:
            await ingress.stop(0.0)
            await run
        self._runs.clear()

    async def end(self) -> None:
        """Close what a test opened."""
        self.dispatch.gate.set()
        await self.kill()
        for client in self._clients:
            await client.close()
        await self.sqlite.close()

    async def producer(self, client_id: str = "producer", topic: str = "replies/#") -> Producer:
        client = await RawClient.connected(self.broker.port, client_id, clean_start=False, session_expiry_interval=99)
        self._clients.append(client)
        await client.subscribe(topic, "router/dead-letter")
        return Producer(client)


Worlds = Callable[..., Any]


@pytest.fixture
def worlds(tmp_path: Path) -> Worlds:
    """Makes a world with these options; ends it in order."""

    @asynccontextmanager
    async def make(*, limits: Limits | None = None, **options: Any) -> AsyncIterator[World]:
        async with Broker(limits=limits) as broker:
            journal = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
            settings = {"url": broker.url, "backoff_min_s": 0.005, "backoff_max_s": 0.01} | options
            world = World(broker, journal, MqttOptions(**settings))
            try:
                yield world
            finally:
                await world.end()

    return make


def fields(packet: mqtt5.PublishPacket) -> dict[str, str]:
    """User properties by name."""
    return dict(packet.user_properties)


def content(packet: mqtt5.PublishPacket) -> tuple[bytes, list[tuple[str, str]], str | None]:
    """What must be identical when an id is answered again."""
    return packet.payload, list(packet.user_properties), packet.content_type


def code(packet: mqtt5.PublishPacket) -> str:
    """The error code of an error reply, which the property and the body agree on."""
    named: str = json.loads(packet.payload)["error"]["code"]
    assert fields(packet)["router-code"] == named
    return named


async def test_a_request_is_answered_on_its_response_topic(worlds: Worlds) -> None:
    """Body, correlation data, content type and what it cost come back, and the journal is done with it."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(properties=[("tenant", "acme"), ("class", "chat"), ("priority", "2"), ("site", "x")])
        reply = await producer.one()
        assert (reply.topic, reply.correlation_data, reply.content_type) == ("replies/1", b"c1", "application/json")
        body = json.loads(reply.payload)
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == "hi"
        assert fields(reply)["router-decision-id"] == "d-1"
        assert fields(reply)["request-id"] == "r1"
        (request,) = world.dispatch.calls
        assert (request.tenant, request.request_class, request.priority) == ("acme", "chat", 2)
        assert (request.topic, request.attributes) == ("router/requests/chat", (("site", "x"),))
        await world.sink.saw("replied")
        assert await world.sqlite.unfinished() == ()


async def test_nothing_is_acknowledged_before_it_is_on_the_disk(worlds: Worlds) -> None:
    """The PUBACK of a request waits for the journal."""
    async with worlds() as world:
        world.journal.hold = "receive"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        await (await world.producer("other")).so_far()
        assert world.broker.stats.acknowledged == 0
        world.journal.gate.set()
        await producer.one()
        assert world.broker.stats.acknowledged >= 1


async def test_a_call_is_counted_on_the_disk_before_it_is_made(worlds: Worlds) -> None:
    """No model is called while the journal does not know of it."""
    async with worlds() as world:
        world.journal.hold = "call_started"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        await producer.so_far()
        assert world.dispatch.calls == []
        world.journal.gate.set()
        await producer.one()


@pytest.mark.parametrize("body", [HELLO, STREAM])
async def test_no_final_answer_leaves_before_it_is_on_the_disk(worlds: Worlds, body: bytes) -> None:
    """Pieces of a stream may; what a client can take for the whole answer may not."""
    async with worlds() as world:
        world.journal.hold = "answered"
        await world.start()
        producer = await world.producer()
        producer.ask(body=body)
        await world.journal.entered.wait()
        early = await producer.get(0 if body is HELLO else 2)
        assert {fields(packet)["final"] for packet in early} <= {"false"}
        assert await producer.so_far() == []
        world.journal.gate.set()
        assert fields(await producer.one()).get("final", "true") == "true"


async def test_a_duplicate_is_answered_byte_for_byte_without_a_call(worlds: Worlds) -> None:
    """Payload and user properties are the first reply's; the correlation data is the asker's own."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask()
        first = await producer.one()
        producer.ask(correlation_data=b"again", response_topic="replies/2")
        second = await producer.one()
        assert content(second) == content(first)
        assert (second.topic, second.correlation_data) == ("replies/2", b"again")
        assert len(world.dispatch.calls) == 1
        assert world.sink.count("duplicate") == 1


async def test_duplicates_in_flight_get_the_one_answer_each(worlds: Worlds) -> None:
    """Whoever asks while the first is being answered is acknowledged at once and answered with it."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask()
        producer.ask(response_topic="replies/2", correlation_data=b"c2")
        producer.ask()
        await world.sink.saw("duplicate", 2)
        world.dispatch.gate.set()
        replies = await producer.get(2)
        assert {(r.topic, r.correlation_data) for r in replies} == {("replies/1", b"c1"), ("replies/2", b"c2")}
        assert content(replies[0]) == content(replies[1])
        producer.ask("r2")
        assert fields(await producer.one())["request-id"] == "r2", "the same asker was not answered twice"
        assert len(world.dispatch.calls) == 2


async def test_an_id_with_another_body_is_a_conflict(worlds: Worlds) -> None:
    """It is told so, and the first is answered as if nothing had come."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.dispatch.called()
        other = b'{"messages":[{"role":"user","content":"other"}]}'
        producer.ask(body=other, correlation_data=b"c2")
        conflict = await producer.one()
        assert (code(conflict), conflict.correlation_data) == ("idempotency_conflict", b"c2")
        world.dispatch.gate.set()
        assert json.loads((await producer.one()).payload)["object"] == "chat.completion"
        producer.ask(body=other)
        assert code(await producer.one()) == "idempotency_conflict"
        assert len(world.dispatch.calls) == 1


async def test_tenants_have_their_own_ids(worlds: Worlds) -> None:
    """The same request-id of two tenants is two requests."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        for tenant in ("a", "b"):
            producer.ask(properties=[("tenant", tenant)])
        assert {fields(r)["router-decision-id"] for r in await producer.get(2)} == {"d-1", "d-2"}


async def test_a_retry_after_a_shed_is_a_fresh_try(worlds: Worlds) -> None:
    """A refusal that may pass is delivered, then forgotten; the retry may even carry another body."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("full", retry_after_s=1.5))
        await world.start()
        producer = await world.producer()
        producer.ask()
        shed = await producer.one()
        assert (code(shed), fields(shed)["router-retry-after-s"]) == ("overloaded", "1.500")
        producer.ask(body=HELLO.replace(b"hello", b"retry"))
        assert json.loads((await producer.one()).payload)["object"] == "chat.completion"


async def test_a_retry_that_overtakes_its_refusal_waits_and_is_a_fresh_try(worlds: Worlds) -> None:
    """Between the refusal and its delivery a duplicate does not join the dying exchange."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("full"))
        world.journal.hold = "answered"
        await world.start()
        producer = await world.producer()
        producer.ask()
        await world.journal.entered.wait()
        producer.ask(correlation_data=b"c2")
        await producer.so_far()
        world.journal.gate.set()
        first, second = await producer.get(2)
        assert (code(first), first.correlation_data) == ("overloaded", b"c1")
        assert (json.loads(second.payload)["object"], second.correlation_data) == ("chat.completion", b"c2")


@pytest.mark.parametrize(
    ("error", "calls", "expected"),
    [
        (RequestError("x", code="model_not_found"), 0, True),
        (Expired("x"), 0, False),
        (Expired("x"), 1, True),
        (Rejected("x"), 0, False),
        (Rejected("x", code="insufficient_quota"), 0, False),
        (Throttled("x"), 2, False),
        (RouterError("a bug"), 1, False),
    ],
)
def test_which_errors_stick(error: RouterError, calls: int, expected: bool) -> None:
    """Those that a retry would not change; and an expiry once a call may have been paid."""
    assert sticks(error, calls) is expected


async def test_an_error_that_sticks_is_answered_again(worlds: Worlds) -> None:
    """Byte for byte, without asking the dispatcher."""
    async with worlds() as world:
        world.dispatch.errors.append(RequestError("no such model", code="model_not_found"))
        await world.start()
        producer = await world.producer()
        producer.ask()
        first = await producer.one()
        producer.ask()
        assert content(await producer.one()) == content(first)
        assert code(first) == "model_not_found"


async def test_a_bug_in_the_router_is_an_error_reply(worlds: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """The sender gets internal_error, the log the traceback, and the next request its answer."""
    async with worlds() as world:
        world.dispatch.errors.append(ZeroDivisionError())
        await world.start()
        producer = await world.producer()
        producer.ask()
        assert code(await producer.one()) == "internal_error"
        producer.ask("r2")
        await producer.one()
        assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "invalid_json"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"messages":"hello"}', "invalid_request"),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":-1}', "invalid_request"),
        (b'{"messages":[{"role":"user","content":"' + b"x" * 5000 + b'"}]}', "body_too_large"),
    ],
)
async def test_what_is_no_request_is_told_and_put_aside(worlds: Worlds, body: bytes, expected: str) -> None:
    """The sender gets the error, the dead-letter topic the message with the reason, the broker its PUBACK."""
    async with worlds(max_body_bytes=4096) as world:
        await world.start()
        producer = await world.producer()
        producer.ask(body=body)
        replies = {packet.topic: packet for packet in await producer.get(2)}
        assert code(replies["replies/1"]) == expected
        dead = replies["router/dead-letter"]
        assert fields(dead)["code"] == expected
        assert (fields(dead)["original-topic"], fields(dead)["request-id"]) == ("router/requests/chat", "r1")
        assert len(fields(dead)["reason"]) > 5
        assert (dead.payload == body) is (len(body) < 4096)
        assert world.dispatch.calls == []
        producer.ask("good")
        await producer.one()
        assert world.sink.count("invalid") == 1


@pytest.mark.parametrize("topic", [None, "replies/\x07"])
async def test_without_a_way_back_a_message_is_put_aside(worlds: Worlds, topic: str | None) -> None:
    """No response topic, or one that cannot be published to: dead letter, and it does not come again."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(response_topic=topic)
        dead = await producer.one()
        assert (dead.topic, fields(dead)["code"]) == ("router/dead-letter", "no_response_topic")
        assert (dead.payload, dead.correlation_data) == (HELLO, b"c1")
        await world.idle()
        await world.kill()
        await world.start()
        assert world.sink.count("redelivered") == 0


async def test_a_flood_of_rubbish_does_not_disturb_a_request(worlds: Worlds) -> None:
    """Every piece of it is put aside, and the request in the middle is answered."""
    async with worlds(receive_maximum=50) as world:
        await world.start()
        producer = await world.producer()
        for number in range(300):
            producer.ask(body=b"rubbish", response_topic=None)
            if number == 150:
                producer.ask()
        counts = Counter(packet.topic for packet in await producer.get(301))
        assert counts == {"router/dead-letter": 300, "replies/1": 1}


async def test_a_stream_is_sequenced_publishes(worlds: Worlds) -> None:
    """The chunks that SSE would carry, numbered, the last one final; a duplicate gets the same publishes."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM.replace(b"true", b'true,"stream_options":{"include_usage":true}'))
        pieces = await producer.get(4)
        assert [fields(piece)["seq"] for piece in pieces] == ["0", "1", "2", "3"]
        assert [fields(piece)["final"] for piece in pieces] == ["false", "false", "false", "true"]
        assert pieces[-1].payload == b"[DONE]"
        chunks = [json.loads(piece.payload) for piece in pieces[:-1]]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert "".join(c["delta"]["content"] for chunk in chunks for c in chunk["choices"]) == "hi"
        assert chunks[-1]["usage"]["completion_tokens"] == 2
        assert fields(pieces[0])["router-model"] == fields(pieces[-1])["router-model"] == "llama"
        producer.ask(body=STREAM.replace(b"true", b'true,"stream_options":{"include_usage":true}'))
        assert [content(piece) for piece in await producer.get(4)] == [content(piece) for piece in pieces]
        assert len(world.dispatch.calls) == 1


async def test_pieces_of_a_stream_do_not_wait_for_its_end(worlds: Worlds) -> None:
    """The first is with the client while the model still speaks; who joins then gets all of them at the end."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        assert fields(await producer.one())["seq"] == "0"
        producer.ask(body=STREAM, correlation_data=b"c2")
        await world.sink.saw("duplicate")
        world.dispatch.gate.set()
        rest = await producer.get(5)
        by_asker = Counter(packet.correlation_data for packet in rest)
        assert by_asker == {b"c1": 2, b"c2": 3}


async def test_a_stream_that_fails_ends_with_the_error(worlds: Worlds) -> None:
    """The error body is the final piece; without [DONE] it cannot pass for an answer."""
    async with worlds() as world:
        world.dispatch.errors.append(Throttled("slow down"))
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        first, last = await producer.get(2)
        assert fields(first)["final"] == "false"
        assert (code(last), fields(last)["final"], fields(last)["seq"]) == ("throttled", "true", "1")


async def test_a_stream_goes_on_over_a_lost_connection(worlds: Worlds) -> None:
    """Pieces that the broker did not acknowledge are published again; none is missing."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        await producer.one()
        world.broker.faults.cut_after_packets["router-replies"] = 1
        world.dispatch.gate.set()
        seen = [fields(await producer.one())]
        while seen[-1]["final"] == "false":
            seen.append(fields(await producer.one()))
        assert [each["seq"] for each in seen if each["seq"] != "0"][-2:] == ["1", "2"]
        assert world.sink.count("disconnected", "mqtt_replies") == 1


async def test_what_a_former_life_left_is_answered(worlds: Worlds) -> None:
    """Received only, cut in a call, and answered but not delivered: each gets its reply, the last without a call."""
    async with worlds() as world:
        producer = await world.producer()
        base = Received("", "router/requests/chat", HELLO, "replies/1", None, (), world.clock.at - 5.0, None)
        left = {name: _with_id(base, name) for name in ("received", "cut", "answered")}
        for each in left.values():
            await world.sqlite.receive(each)
        await world.sqlite.call_started(left["cut"].key)
        await world.sqlite.answered(left["answered"].key, (Published(b"kept", (("request-id", "answered"),)),))
        await world.start()
        replies = {fields(reply)["request-id"]: reply for reply in await producer.get(3)}
        assert replies["answered"].payload == b"kept"
        assert fields(replies["received"])["router-attempts"] == "1"
        assert fields(replies["cut"])["router-attempts"] == "2"
        assert {(call.id, call.attempts_before) for call in world.dispatch.calls} == {("received", 0), ("cut", 1)}
        assert world.dispatch.calls[0].arrived == world.clock.now - 5.0
        assert (world.sink.count("recovered"), world.sink.count("cut_call")) == (3, 1)


def _with_id(received: Received, request_id: str) -> Received:
    return Received(
        request_id,
        received.topic,
        received.payload,
        received.response_topic,
        received.correlation_data,
        (("request-id", request_id),),
        received.received_at,
        received.expires_at,
    )


async def test_a_stream_that_a_crash_cut_starts_again_and_says_so(worlds: Worlds) -> None:
    """From seq 0, each piece marked; the id is answered with the same publishes from then on."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask(body=STREAM)
        assert "router-restarted" not in fields(await producer.one())
        await world.kill()
        world.dispatch.gate.set()
        await world.start()
        pieces = await producer.get(3)
        assert [fields(piece)["seq"] for piece in pieces] == ["0", "1", "2"]
        assert {fields(piece)["router-restarted"] for piece in pieces} == {"true"}
        assert world.sink.count("cut_call") == 1
        producer.ask(body=STREAM)
        assert [content(piece) for piece in await producer.get(3)] == [content(piece) for piece in pieces]


async def test_the_expiry_interval_is_the_deadline(worlds: Worlds) -> None:
    """Counted from arrival on the monotonic clock."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(message_expiry_interval=30)
        await producer.one()
        assert world.dispatch.calls[0].deadline == world.clock.now + 30.0


async def test_a_deadline_runs_on_while_the_router_is_down(worlds: Worlds) -> None:
    """What expired meanwhile is answered so, without a call; what did not has the rest of its time."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        await world.start()
        producer = await world.producer()
        producer.ask("short", message_expiry_interval=10)
        producer.ask("long", message_expiry_interval=60)
        await world.dispatch.called(2)
        await world.kill()
        world.clock.pass_by(20.0)
        world.dispatch.gate.set()
        await world.start()
        replies = {fields(reply)["request-id"]: reply for reply in await producer.get(2)}
        assert code(replies["short"]) == "deadline_exceeded"
        assert json.loads(replies["long"].payload)["object"] == "chat.completion"
        assert [(call.id, call.deadline) for call in world.dispatch.calls[2:]] == [("long", world.clock.now + 40.0)]


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


async def test_a_message_without_id_is_answered_each_time_it_is_sent(worlds: Worlds) -> None:
    """Equal messages are two requests, if the broker does not mark one as a redelivery."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        producer.ask(None)
        producer.ask(None)
        ids = {fields(reply)["request-id"] for reply in await producer.get(2)}
        assert len(ids) == 2
        assert len(world.dispatch.calls) == 2


async def test_a_redelivery_without_id_is_not_paid_twice(worlds: Worlds) -> None:
    """It is known by its content."""
    async with worlds() as world:
        producer = await world.producer()
        asked = Publish("router/requests/chat", HELLO, response_topic="replies/1", correlation_data=b"c1")
        known = Received(content_id(asked), asked.topic, HELLO, "replies/1", b"c1", (), world.clock.at, None)
        await world.sqlite.receive(known)
        await world.sqlite.answered(known.key, (Published(b"kept", ()),))
        await world.sqlite.delivered(known.key, known.asker)
        world.journal.hold = "receive"
        await world.start()
        producer.ask(None)
        await world.journal.entered.wait()
        await world.kill()
        world.journal.hold = ""
        await world.start()
        assert (await producer.one()).payload == b"kept"
        assert world.sink.count("redelivered") == 1
        assert world.dispatch.calls == []


async def test_nobody_there_for_the_reply_is_counted(worlds: Worlds) -> None:
    """The answer stays in the journal for a retry under the same id."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer(topic="elsewhere")
        producer.ask()
        await world.sink.saw("client_gone")
        assert await world.sqlite.purge(before_at=world.clock.at - 1.0) == 0
        producer = await world.producer("back")
        producer.ask()
        assert fields(await producer.one())["router-decision-id"] == "d-1"
        assert len(world.dispatch.calls) == 1


async def test_an_answer_over_the_brokers_packet_size_becomes_an_error(worlds: Worlds) -> None:
    """The sender is told, instead of the broker ending the connection for everybody."""
    async with worlds(limits=Limits(max_packet_size_bytes=600)) as world:
        await world.start()
        producer = await world.producer()
        producer.ask("x" * 200)
        assert code(await producer.one()) == "reply_too_large"


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
        topics = set()
        while len(topics) < 5:
            topics.add((await producer.one()).topic)
        run.cancel()
        await asyncio.wait((run,))


async def test_feedback_reaches_the_dispatcher(worlds: Worlds) -> None:
    """Known ids teach; unknown and malformed ones are counted, and all are acknowledged."""
    async with worlds() as world:
        await world.start()
        producer = await world.producer()
        for payload in (
            b'{"decision_id":"d-1","quality":0.5}',
            b'{"decision_id":"d-9","quality":1}',
            b'{"decision_id":"d-1","quality":7}',
            b"rubbish",
        ):
            producer.client.publish("router/feedback", payload, qos=1)
        await world.sink.saw("invalid", 2)
        assert world.dispatch.feedbacks == [("d-1", 0.5), ("d-9", 1.0)]
        assert world.sink.count("feedback_unknown") == 1
        producer.ask()
        await producer.one()
        assert world.broker.stats.redelivered == 0


async def test_stop_finishes_what_is_open(worlds: Worlds) -> None:
    """Within the grace: answered, published, delivered."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        ingress = await world.start()
        producer = await world.producer()
        producer.ask()
        await world.dispatch.called()
        stopping = asyncio.create_task(ingress.stop(WAIT_S))
        await asyncio.sleep(0)
        world.dispatch.gate.set()
        await stopping
        assert fields(await producer.one())["request-id"] == "r1"
        assert await world.sqlite.unfinished() == ()


async def test_what_stop_does_not_wait_for_stays_in_the_journal(worlds: Worlds) -> None:
    """And what comes after it stays with the broker; the next life answers both."""
    async with worlds() as world:
        world.dispatch.gate.clear()
        ingress = await world.start()
        producer = await world.producer()
        producer.ask("open")
        await world.dispatch.called()
        await ingress.stop(0.0)
        producer.ask("later")
        await producer.client.flushed()
        assert [entry.received.request_id for entry in await world.sqlite.unfinished()] == ["open"]
        world.dispatch.gate.set()
        await world.start()
        assert {fields(reply)["request-id"] for reply in await producer.get(2)} == {"open", "later"}


async def test_a_draining_router_leaves_its_requests_to_the_next_life(worlds: Worlds) -> None:
    """`draining` is no answer: the journal keeps the request."""
    async with worlds() as world:
        world.dispatch.errors.append(Rejected("stopping", code="draining"))
        await world.start()
        producer = await world.producer()
        producer.ask()
        producer.ask("r2")
        assert fields(await producer.one())["request-id"] == "r2"
        await world.kill()
        await world.start()
        assert fields(await producer.one())["request-id"] == "r1"


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


async def test_old_answers_are_forgotten(worlds: Worlds) -> None:
    """Past the retention an id is new again."""
    async with worlds(retention_s=0.3) as world:
        await world.start()
        producer = await world.producer()
        producer.ask()
        await producer.one()
        world.clock.pass_by(10.0)
        async with asyncio.timeout(WAIT_S):
            while world.clock.at and len(world.dispatch.calls) < 2:
                producer.ask()
                await producer.one()
        assert len(world.dispatch.calls) == 2
