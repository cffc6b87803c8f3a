"""None lost, none paid twice: a process killed with -9 at every await between a request and its delivered reply.

It runs journal and ingress over a real broker, and kills itself at a given point. Its successor must answer everything.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.ports import free_port
from router.doubles.mqtt_broker import Broker
from tests.integration.router_lives import WAIT_S, Producer, Router

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
