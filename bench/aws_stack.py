"""A router, a broker, the AWS double and a sender, each a process or thread of its own, for benchmarks that kill them.

The double is `router aws-double`, the router is `router serve`; the broker is mosquitto where that is installed and the
embedded one elsewhere; the sender is plain paho-mqtt.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.http_path import wait_until_ready
from bench.ports import free_port
from bench.survive import MOSQUITTO, Broker
from router.doubles.mqtt_broker import Broker as EmbeddedBroker
from router.storage.decision_records import Logged, decision_folder, log_files, read_decisions

HAIKU = "anthropic.claude-3-5-haiku-20241022-v1:0"
CLASS = "survive"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
NOWHERE = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
WORLD = """\
models:
- id: {model}
  text: {text}
  speed: {{first_token_s: 0.3, output_token_s: {gap_s}}}
  prices: {{input: 0.8, output: 4.0}}
"""
FLEET = """\
deployments:
  - {{name: haiku, model: haiku, tier: small, backend: bedrock, region: us-east-1, target: "{model}", url: "{url}",
     price_usd_per_mtok: {{input: 0.8, output: 4.0}}, max_in_flight: 1024}}
class: {{name: {name}, goal: cost, deadline: 2m, budget: {{usd_per_day: 1000}}}}
"""
WAIT_S = 120.0
LOOK_S = 0.02
_BILLED = ("at", "output_tokens", "input_tokens", "usd")


def came(what: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    """Wait for something that others do; whether it came in time."""
    end = time.monotonic() + within_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_S)
    return True


def until(what: Callable[[], bool], why: str) -> None:
    """Wait for something that others do; `SystemExit` says what did not come."""
    if not came(what):
        raise SystemExit(f"not within {WAIT_S:.0f} s: {why}")


def words(count: int) -> str:
    """The first words of what the double says."""
    return "".join(f"word{number} " for number in range(count)).rstrip()


def page(url: str) -> str:
    """What a GET answers."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


class Bill(NamedTuple):
    """A line of the double's bill; `at` is wall time."""

    at: float
    output_tokens: int
    input_tokens: int
    usd: float


class Far:
    """`router aws-double` with one model, which says so many words, one each `gap_s`."""

    def __init__(self, folder: Path, tokens: int, gap_s: float) -> None:
        config = folder / "double.yaml"
        config.write_text(WORLD.format(model=HAIKU, text=words(tokens), gap_s=gap_s))
        command = [sys.executable, "-m", "router", "aws-double", "--port", "0", "--no-stores", "--config", str(config)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip().partition("=")[2]

    def state(self) -> dict[str, Any]:
        """What it tells of itself."""
        told: dict[str, Any] = json.loads(page(f"{self.url}/_double/state"))
        return told

    def bills(self) -> list[Bill]:
        """In the order in which the calls ended."""
        return [Bill(*(bill[name] for name in _BILLED)) for bill in self.state()["bills"]]

    def stop(self) -> None:
        """End it."""
        self._child.terminate()
        self._child.communicate(timeout=60)


class Served:
    """`router serve` on one state directory, life after life."""

    def __init__(self, folder: Path, broker_port: int, aws_url: str) -> None:
        self._port, self._folder, self.state_dir = free_port(), folder, folder / "state"
        policies = folder / "policies"
        policies.mkdir()
        policies.joinpath("aws.yaml").write_text(FLEET.format(model=HAIKU, url=aws_url, name=CLASS))
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = {
            **os.environ,
            **KEYS,
            **NOWHERE,
            "ROUTER_MQTT__URL": f"mqtt://127.0.0.1:{broker_port}",
            "ROUTER_MQTT__CLIENT_ID": "aws-survivor",
            "ROUTER_HTTP__PORT": str(self._port),
            "ROUTER_POLICIES": str(policies),
            "ROUTER_STATE_DIR": str(self.state_dir),
            "ROUTER_LOG__LEVEL": "warning",
        }
        self.start()

    def start(self) -> None:
        """Begin a life; returns when it is ready."""
        with (self._folder / "log").open("a") as log:
            command = [sys.executable, "-m", "router", "serve"]
            self._child = subprocess.Popen(command, env=self._environment, stderr=log, text=True)
        wait_until_ready(self.url, self._child)

    def is_ready(self) -> bool:
        """Whether it takes requests."""
        try:
            page(f"{self.url}/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def kill(self) -> float:
        """With -9; the wall time of it."""
        at = time.time()
        self._child.kill()
        self._child.wait(60)
        return at

    def terminate(self) -> None:
        """Ask for an orderly end."""
        self._child.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """The exit status, once it has ended."""
        return self._child.wait(WAIT_S)

    def stop(self) -> None:
        """End it, if it lives."""
        if self._child.poll() is None:
            self.terminate()
            self.ended()

    def metric(self, name: str, labels: str = "") -> float:
        """All series of this life that have these labels, together."""
        found = re.findall(rf"^{name}(?:\{{.*{labels}.*\}})? (\S+)$", page(f"{self.url}/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def ledger_usd(self) -> tuple[float, float]:
        """Spent and reserved today, over all lives."""
        spent, reserved, _ = json.loads(page(f"{self.url}/v1/policy"))["budgets"][CLASS]
        return spent, reserved

    def logged(self) -> list[Logged]:
        """The decision log, over all lives."""
        return list(read_decisions(log_files(decision_folder(self.state_dir))))


class Final(NamedTuple):
    """The last message of an answer: its bytes with all before it, text, error code, USD that it says."""

    content: tuple[bytes, ...]
    text: str
    code: str | None
    usd: float


class Sender:
    """Publishes each id once, and gathers what comes back."""

    def __init__(self, port: int) -> None:
        self._news: queue.Queue[tuple[str, bytes, dict[str, str]]] = queue.Queue()
        self._pieces: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.finals: dict[str, list[Final]] = defaultdict(list)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "aws-survive-sender", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.loop_start()
        self._client.subscribe("replies/aws-survive", qos=1)
        assert subscribed.wait(WAIT_S)

    def ask(self, name: str, tokens: int, *, stream: bool) -> None:
        """For an answer of so many tokens."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = "replies/aws-survive"
        properties.CorrelationData = name.encode()
        properties.UserProperty = [("request-id", name)]
        said = [{"role": "user", "content": f"Say all the words of {name}"}]
        body = json.dumps({"messages": said, "max_tokens": tokens, "stream": stream}).encode()
        self._client.publish(f"router/requests/{CLASS}", body, qos=1, properties=properties)

    def begun(self) -> int:
        """Streams of which something has come."""
        self._take()
        return len(self._pieces)

    def answered(self) -> int:
        """Ids that have their answer, or an error."""
        self._take()
        return len(self.finals)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        named = dict(message.properties.UserProperty)
        self._news.put((message.properties.CorrelationData.decode(), message.payload, named))

    def _take(self) -> None:
        while not self._news.empty():
            name, payload, named = self._news.get()
            if "seq" in named:
                self._pieces[name][int(named["seq"])] = payload
            if named.get("final", "true") == "true":
                last = int(named.get("seq", 0))
                pieces = [self._pieces[name].get(seq, b"") for seq in range(last)] if "seq" in named else []
                content = (*pieces, payload)
                usd = float(named.get("router-cost-usd", 0.0))
                self.finals[name].append(Final(content, _text(content), named.get("router-code"), usd))


def _text(content: tuple[bytes, ...]) -> str:
    """The words of a whole answer or of a stream's chunks."""
    said = ""
    for piece in content:
        if piece.startswith(b"{"):
            for choice in json.loads(piece).get("choices", ()):
                said += (choice.get("message") or choice.get("delta") or {}).get("content") or ""
    return said.rstrip()


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """The port of mosquitto, or of the embedded broker on a thread."""
    if MOSQUITTO is not None:
        one = Broker(folder)
        try:
            yield one.port
        finally:
            one.stop()
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    embedded = EmbeddedBroker()
    asyncio.run_coroutine_threadsafe(embedded.start(), loop).result(WAIT_S)
    try:
        yield embedded.port
    finally:
        asyncio.run_coroutine_threadsafe(embedded.stop(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
