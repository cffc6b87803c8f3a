"""None lost, none paid twice: a process killed with -9 at every await between a request and its delivered reply.

A child runs journal and ingress over a real broker with a dispatcher whose model appends each call to a file, and
kills itself at a given point. Its successor must answer everything. The producer is plain paho.
"""

from __future__ import annotations

import asyncio
import json
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.ports import free_port
from router.doubles.mqtt_broker import Broker
from router.ports.journal import Entry
from router.storage.journal import SqliteJournal

CHILD = """
import asyncio, json, os, signal, sys
from pathlib import Path
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ingress.mqtt_client import MqttConnection
from router.ingress.mqtt_exchange import Exchanges
from router.ingress.mqtt_replies import Replies
from router.storage.journal import SqliteJournal
from router.storage.journal_rows import Rows

url, folder, point, nth = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
events = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
hits = 0

def at(name):
    global hits
    if name == point:
        hits += 1
        if hits == nth:
            os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, before, after):
    inner = getattr(owner, name)
    async def wrapped(self, *args, **kwargs):
        at(before)
        result = await inner(self, *args, **kwargs)
        at(after)
        return result
    setattr(owner, name, wrapped)

around(Exchanges, "take", "message", "taken")
around(SqliteJournal, "receive", "receive", "received")
around(SqliteJournal, "call_started", "call", "call_started")
around(SqliteJournal, "answered", "answer", "answered")
around(SqliteJournal, "delivered", "deliver", "delivered")
around(Replies, "send", "send", "confirmed")

def soon_after(owner, name, after):
    inner = getattr(owner, name)
    def wrapped(self, *args):
        result = inner(self, *args)
        asyncio.get_running_loop().call_soon(at, after)
        return result
    setattr(owner, name, wrapped)

soon_after(MqttConnection, "ack", "acknowledged")
soon_after(MqttConnection, "publish", "published")

commit = Rows.commit
def killing_commit(self):
    at("commit")
    commit(self)
    at("committed")
Rows.commit = killing_commit

class Sink:
    def emit(self, event):
        os.write(events, f"{event.what} {event.count}\\n".encode())

class Dispatcher:
    async def submit(self, request, responder=None, *, on_call=None):
        await on_call()
        os.write(calls, f"{request.id}\\n".encode())
        at("model")
        words = [f"{request.id}-{os.getpid()}-{number}" for number in range(3)]
        receipt = Receipt(f"d-{words[0]}", "small-a", "small", "p", 1 + request.attempts_before, 0.001, 0.0)
        if responder is not None:
            await responder.begin(receipt)
            for word in words:
                piece = [{"index": 0, "delta": {"content": word}}]
                await responder.delta(Delta(json.dumps(piece).encode(), 1))
                await asyncio.sleep(0)
                at("streaming")
        whole = [{"index": 0, "message": {"role": "assistant", "content": words[0]}, "finish_reason": "stop"}]
        return Reply(request, json.dumps(whole).encode(), Usage(1, 1), receipt, 1)
    def has_room(self):
        return True

    def held(self, source):
        return 0

async def main():
    journal = SqliteJournal(folder / "journal.db")
    options = MqttOptions(url=url, backoff_min_s=0.02, backoff_max_s=0.1, receive_maximum=8)
    ingress = MqttIngress(options, Dispatcher(), journal, Sink())
    running = asyncio.create_task(ingress.run())
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: asyncio.ensure_future(ingress.stop(5.0))
    )
    await running
    await journal.close()

asyncio.run(main())
"""
POINTS = (
    "message",
    "receive",
    "commit",
    "committed",
    "received",
    "acknowledged",
    "call",
    "call_started",
    "model",
    "streaming",
    "answer",
    "answered",
    "send",
    "published",
    "confirmed",
    "deliver",
    "delivered",
    "taken",
)
IDS = 9
"""Requests in one life; every third asks for a stream."""
NTH = 4
"""The child dies at the fourth time it comes by, with some requests before that point and some behind it."""
WAIT_S = 60.0
Content = tuple[bytes, tuple[tuple[str, str], ...]]


class Producer:
    """Publishes under request ids and gathers what comes back, by id and place in the stream."""

    def __init__(self, port: int) -> None:
        self._news: queue.Queue[tuple[str, str, bool, Content]] = queue.Queue()
        self.answers: dict[str, dict[str, Content]] = defaultdict(dict)
        self.finals: Counter[str] = Counter()
        self.copies: dict[str, set[Content]] = defaultdict(set)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="producer", protocol=5)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.loop_start()
        self._client.subscribe("replies/#", qos=1)
        assert subscribed.wait(WAIT_S)

    def ask(self, names: list[str]) -> None:
        """Publish these ids; returns when the broker has them."""
        sent = []
        for number, name in enumerate(names):
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = f"replies/{number % 2}"
            properties.CorrelationData = name.encode()
            properties.UserProperty = [("request-id", name)]
            body: dict[str, object] = {"messages": [{"role": "user", "content": name}]}
            if _streams(name):
                body["stream"] = True
            payload = json.dumps(body).encode()
            sent.append(self._client.publish("router/requests/chat", payload, qos=1, properties=properties))
        for info in sent:
            info.wait_for_publish(WAIT_S)

    def wait_for(self, names: list[str], times: int) -> None:
        """Until each of these ids was answered to the end so often."""
        until = time.monotonic() + WAIT_S
        while any(self.finals[name] < times for name in names):
            try:
                self._keep(*self._news.get(timeout=max(until - time.monotonic(), 0.01)))
            except queue.Empty:
                missing = [name for name in names if self.finals[name] < times]
                raise AssertionError(f"not answered {times} times: {missing}") from None

    def drain(self) -> None:
        """Take in what has come by now."""
        while not self._news.empty():
            self._keep(*self._news.get())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _keep(self, name: str, seq: str, final: bool, content: Content) -> None:
        self.answers[name][seq] = content
        self.finals[name] += final
        if final:
            self.copies[name].add(content)

    def _on_message(self, _client: object, _data: object, message: object) -> None:
        fields = message.properties.UserProperty
        named = dict(fields)
        name = message.properties.CorrelationData.decode()
        final = named.get("final", "true") == "true"
        self._news.put((name, named.get("seq", ""), final, (bytes(message.payload), tuple(fields))))


def _streams(name: str) -> bool:
    return int(name.rsplit("-", 1)[1]) % 3 == 0


class Router:
    """The child, in one folder over its lives."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port, self._folder = port, folder
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, point: str = "never") -> None:
        url = f"mqtt://127.0.0.1:{self._port}"
        command = [sys.executable, "-c", CHILD, url, str(self._folder), point, str(NTH)]
        is_first = not (self._folder / "events").exists()
        self._child = subprocess.Popen(command)
        until = time.monotonic() + WAIT_S
        while is_first and time.monotonic() < until and self.happened("connected") < 2:
            time.sleep(0.01)  # before the first subscription there is no session that would keep a message

    def wait_until_killed(self) -> None:
        assert self._child is not None
        assert self._child.wait(WAIT_S) == -signal.SIGKILL

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            assert self._child.wait(WAIT_S) == 0

    def left(self) -> tuple[Entry, ...]:
        """What the journal holds unfinished while no process runs."""

        async def read() -> tuple[Entry, ...]:
            journal = SqliteJournal(self._folder / "journal.db")
            try:
                return await journal.unfinished()
            finally:
                await journal.close()

        return asyncio.run(read())

    def calls(self) -> Counter[str]:
        path = self._folder / "calls"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def happened(self, what: str) -> int:
        path = self._folder / "events"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return sum(int(count) for name, count in lines if name == what)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mosquitto of our own."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    port = free_port()
    config = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n")
    broker = subprocess.Popen([binary, "-c", str(config)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield port
    broker.terminate()
    broker.wait(WAIT_S)


@pytest.fixture
def embedded() -> Iterator[int]:
    """The port of the embedded broker, on a thread with its own event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    broker = Broker()
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result(WAIT_S)
    yield broker.port
    asyncio.run_coroutine_threadsafe(broker.stop(), loop).result(WAIT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT_S)
    loop.close()


def live_and_die(router: Router, producer: Producer, names: list[str], point: str) -> set[str]:
    """One life that takes these ids and is killed at this point; the ids whose call it cut off."""
    router.start(point)
    producer.ask(names)
    router.wait_until_killed()
    return {entry.received.request_id for entry in router.left() if entry.calls and entry.replies is None}


def check(router: Router, producer: Producer, names: list[str], cut: Counter[str]) -> None:
    """All are answered; again with the same bytes and without a call; calls beyond the first were cut ones."""
    producer.wait_for(names, 1)
    calls = router.calls()
    for name in names:
        assert 1 <= calls[name] <= 1 + cut[name], (name, calls[name], cut[name])
    assert router.happened("cut_call") == cut.total()
    first = {name: dict(producer.answers[name]) for name in names}
    producer.drain()
    seen = dict(producer.finals)
    producer.ask(names)
    for name in names:
        producer.wait_for([name], seen[name] + 1)
    assert router.calls() == calls
    assert {name: dict(producer.answers[name]) for name in names} == first
    assert {name for name in names if len(producer.copies[name]) > 1} == set()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_await_every_id_is_answered_and_none_paid_twice(
    mosquitto: int, tmp_path: Path, point: str
) -> None:
    """Every id is answered after the restart, byte for byte the same again, and a call is repeated only if cut."""
    router, producer = Router(mosquitto, tmp_path), Producer(mosquitto)
    names = [f"{point}-{number}" for number in range(IDS)]
    try:
        cut = live_and_die(router, producer, names, point)
        router.start()
        check(router, producer, names, Counter(cut))
    finally:
        router.stop()
        producer.close()


def test_killed_while_it_recovers_it_recovers_again(embedded: int, tmp_path: Path) -> None:
    """Life after life killed one await later, each with the last one's work on its hands and new requests."""
    router, producer = Router(embedded, tmp_path), Producer(embedded)
    names: list[str] = []
    cut: Counter[str] = Counter()
    try:
        for point in POINTS[::2]:
            fresh = [f"{point}-{number}" for number in range(IDS)]
            names += fresh
            cut.update(live_and_die(router, producer, fresh, point))
        router.start()
        check(router, producer, names, cut)
    finally:
        router.stop()
        producer.close()
