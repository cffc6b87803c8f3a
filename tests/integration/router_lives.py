"""A router that dies at a point of its work, life after life, and a producer on plain paho who asks it."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from router.ports.journal import Entry
from router.storage.journal import SqliteJournal

DYING = Path(__file__).with_name("dying_router.py")
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
        self._client = Client(CallbackAPIVersion.VERSION2, "producer", protocol=5)
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

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        fields = message.properties.UserProperty
        named = dict(fields)
        name = message.properties.CorrelationData.decode()
        final = named.get("final", "true") == "true"
        self._news.put((name, named.get("seq", ""), final, (bytes(message.payload), tuple(fields))))


def _streams(name: str) -> bool:
    return int(name.rsplit("-", 1)[1]) % 3 == 0


class Router:
    """The process, in one folder over its lives."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port, self._folder = port, folder
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, point: str = "never") -> None:
        url = f"mqtt://127.0.0.1:{self._port}"
        command = [sys.executable, str(DYING), url, str(self._folder), point, str(NTH)]
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
