"""The retained message that says how the policy stands, over real sockets against the embedded broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

import mqtt5
import pytest

from router.domain.events import Event, IngressEvent, PolicyApplied, PolicyRejected, PolicySource, RolloutChanged
from router.doubles.mqtt_broker import Broker, RawClient
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ingress.mqtt_replies import Refused, Replies, Status
from router.ports.dispatch import Dispatch
from router.storage.journal import SqliteJournal
from router.telemetry.policy_status import PROBLEMS_MAX, PolicyStatus
from router.telemetry.sink import Sink
from router.wire.mqtt_packet import read_publish, write_publish

WAIT_S = 60.0
TOPIC = "router/policy/status"
EDITED = PolicySource("policies", ("classes/chat.yaml",))


class Idle:
    """A dispatcher that is never asked."""

    def has_room(self) -> bool:
        return True

    def held(self, source: str) -> int:
        return 0


class Seen:
    """Ingress events, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    def emit(self, event: Event) -> None:
        assert isinstance(event, IngressEvent)
        self.events.append((event.source, event.what))
        self.news.set()

    async def saw(self, source: str, what: str, times: int = 1) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.events.count((source, what)) < times:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def running(broker: Broker, folder: Path, page: Callable[[], bytes]) -> AsyncIterator[tuple[MqttIngress, Seen]]:
    journal, seen = SqliteJournal(folder / "journal.db"), Seen()
    options = MqttOptions(url=f"mqtt://127.0.0.1:{broker.port}", backoff_min_s=0.01, backoff_max_s=0.02)
    ingress = MqttIngress(options, cast(Dispatch, Idle()), journal, seen, rng=Random(1), status=page)
    task = asyncio.create_task(ingress.run())
    try:
        yield ingress, seen
    finally:
        await ingress.stop(1.0)
        await asyncio.gather(task, return_exceptions=True)
        await journal.close()


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    one = Broker()
    await one.start()
    yield one
    await one.stop()


@asynccontextmanager
async def watcher(broker: Broker) -> AsyncIterator[Callable[[], Awaitable[tuple[dict[str, Any], bool]]]]:
    """Subscribed to the status; gives what the next message says, and whether the broker had kept it."""

    async def next_one() -> tuple[dict[str, Any], bool]:
        packet = await client.expect(mqtt5.PublishPacket)
        client.acknowledge([packet])
        assert packet.content_type == "application/json"
        return json.loads(packet.payload), packet.retain

    async with await RawClient.connected(broker.port, "") as client:
        await client.subscribe(mqtt5.TopicFilter(TOPIC, max_qos=mqtt5.QoS.AT_LEAST_ONCE, retain_as_published=False))
        yield next_one


async def test_who_subscribes_later_gets_what_was_said_last(broker: Broker, tmp_path: Path) -> None:
    """It is retained: at the connection, and again at every change."""
    said = {"n": 1}
    async with (
        running(broker, tmp_path, lambda: json.dumps(said).encode()) as (ingress, seen),
        watcher(broker) as early,
    ):
        assert (await early())[0] == {"n": 1}
        said["n"] = 2
        ingress.status_changed()
        assert await early() == ({"n": 2}, False)
        async with watcher(broker) as late:
            assert await late() == ({"n": 2}, True)
        assert ("mqtt", "client_gone") not in seen.events


async def test_it_is_said_again_at_every_connection(broker: Broker, tmp_path: Path) -> None:
    """A broker that has forgotten what it kept gets it again, and how it stands now comes last."""
    said = {"n": 1}
    async with running(broker, tmp_path, lambda: json.dumps(said).encode()) as (_, seen):
        await seen.saw("mqtt_replies", "connected")
        await broker.stop()
        said["n"] = 2
        await broker.start()
        async with watcher(broker) as one:
            while (await one())[0] != {"n": 2}:
                continue


class Refusing:
    """In the place of `Replies`: refuses while told to, and counts."""

    def __init__(self) -> None:
        self.on_connect: list[Callable[[], None]] = []
        self.refuses = True
        self.kept: list[bytes] = []
        self.tried = asyncio.Semaphore(0)

    async def keep(self, topic: str, payload: bytes) -> None:
        self.tried.release()
        if self.refuses:
            raise Refused("not allowed")
        self.kept.append(payload)


async def test_a_broker_that_refuses_it_is_asked_again_only_when_there_is_news() -> None:
    """Some brokers answer with a disconnection: asking again at every connection would go on for ever."""
    replies, events = Refusing(), list[tuple[str, str]]()
    status = Status(cast(Replies, replies), TOPIC, lambda: b"{}", lambda what, detail: events.append((what, detail)))
    task = asyncio.create_task(status.run())
    (connected,) = replies.on_connect
    connected()
    await replies.tried.acquire()
    connected()
    replies.refuses = False
    connected()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (replies.tried.locked(), replies.kept) == (True, [])
    assert events == [("refused", f"{TOPIC}: not allowed")]
    status.changed()
    await replies.tried.acquire()
    connected()
    await replies.tried.acquire()
    assert replies.kept == [b"{}", b"{}"]
    task.cancel()


def test_the_retain_flag_is_one_bit_of_the_first_byte() -> None:
    """Nothing else of the packet differs (section 3.3.1.3 of the standard)."""
    plain, kept = (write_publish("a", 7, b"\x00", b"x", retain) for retain in (False, True))
    assert (plain[0], kept[0], plain[1:]) == (0x32, 0x33, kept[1:])
    assert read_publish(kept[0], kept[2:]).payload == b"x"


class Desk:
    """The subscriber behind the status, told through a sink."""

    def __init__(self) -> None:
        self.status = PolicyStatus("aaa", at=1.0, router="router-1")
        self.sink = Sink([self.status])
        self.changes = 0
        self.status.on_change.append(self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def tell(self, *events: Event) -> dict[str, Any]:
        for event in events:
            self.sink.emit(event)
        self.sink.drain_all()
        read: dict[str, Any] = json.loads(self.status.page())
        return read


def test_the_status_follows_edits() -> None:
    """A refused edit leaves the digest in force and says what is wrong; the next good one ends that."""
    desk = Desk()
    begun = {"router": "router-1", "digest": "aaa", "at": 1.0, "state": "in_force", "problems": []}
    assert desk.tell() == {**begun, "refused_digest": None, "rollouts": []}
    assert desk.status.remark() is None
    refused = desk.tell(PolicyRejected("bad", ("chat.yaml:1:2: x", "chat.yaml:2:2: y"), 2.0, EDITED))
    assert (refused["state"], refused["digest"], refused["refused_digest"]) == ("edit_refused", "aaa", "bad")
    assert (refused["at"], refused["problems"]) == (2.0, ["chat.yaml:1:2: x", "chat.yaml:2:2: y"])
    assert desk.status.remark() == "edit of classes/chat.yaml refused: chat.yaml:1:2: x (and 1 more)"
    applied = desk.tell(PolicyApplied("aaa", "bbb", (), 3.0, EDITED))
    assert applied == {**begun, "digest": "bbb", "at": 3.0, "refused_digest": None, "rollouts": []}
    assert desk.status.remark() is None
    assert desk.changes == 2


def test_the_status_shows_the_last_of_every_rollout() -> None:
    """What is under way or was taken back stays over an edit; what has ended goes with the next one."""
    desk = Desk()
    steps = [RolloutChanged("chat", "canary", r, "v1", "why", 2.0) for r in (0.05, 0.25)]
    other = RolloutChanged("code", "rolled_back", 0.0, "v2", "burns", 3.0)
    told = desk.tell(*steps, other, RolloutChanged("math", "promoted", 1.0, "v3", "fine", 4.0))
    assert [(r["request_class"], r["state"], r["ratio"]) for r in told["rollouts"]] == [
        ("chat", "canary", 0.25),
        ("code", "rolled_back", 0.0),
        ("math", "promoted", 1.0),
    ]
    assert desk.changes == 1, "one message for one batch"
    told = desk.tell(PolicyApplied("aaa", "bbb", (), 5.0))
    assert [r["request_class"] for r in told["rollouts"]] == ["chat", "code"]


def test_the_status_stays_small() -> None:
    """A directory with a thousand mistakes fits into one message."""
    told = Desk().tell(PolicyRejected("bad", tuple(f"problem {n}" for n in range(1000)), 2.0))
    assert len(told["problems"]) == PROBLEMS_MAX
