"""Is anything lost, or paid twice, when processes die? `python -m bench.survive --requests 2000`

mosquitto with persistence, `router serve` with its journal, a model that counts its calls, and a producer on plain
paho-mqtt. In mid-run the router is killed with -9 several times and the broker restarted once in order. Then: was every
id answered, is a second reply to an id the same bytes, was a model called for an id already answered, and were the
calls that a kill cut off counted?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.http_path import policy, wait_until_ready
from bench.ports import free_port
from router.doubles.openai_answers import Script, words
from router.doubles.openai_server import OpenAIServer

MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
persistence true
persistence_location {folder}/
user root
"""
START_S = 60.0
REPLIES = "survive/replies"
NO_MATCHING_SUBSCRIBERS = 0x10
CUT = re.compile(r'^router_ingress_events_total\{[^}]*what="cut_call"[^}]*\} (\S+)', re.M)


class Broker:
    """mosquitto, started and stopped in order."""

    def __init__(self, folder: Path) -> None:
        assert MOSQUITTO is not None
        self.port = free_port()
        self._configuration = folder / "mosquitto.conf"
        text = CONFIGURATION.format(port=self.port, folder=folder)
        self._configuration.write_text(text, "utf-8")
        self.start()

    def start(self) -> None:
        command = [str(MOSQUITTO), "-c", str(self._configuration)]
        self._child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("mosquitto did not start")

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(START_S)


class Router:
    """`router serve` on one state directory, life after life."""

    def __init__(self, folder: Path, broker_port: int, upstream_url: str) -> None:
        policies = folder / "policies"
        policies.mkdir()
        policies.joinpath("survive.yaml").write_text(policy(upstream_url, 2), "utf-8")
        self._port = free_port()
        self._environment = {
            "ROUTER_MQTT__URL": f"mqtt://127.0.0.1:{broker_port}",
            "ROUTER_MQTT__CLIENT_ID": "survivor",
            "ROUTER_HTTP__PORT": str(self._port),
            "ROUTER_POLICIES": str(policies),
            "ROUTER_STATE_DIR": str(folder / "state"),
            "ROUTER_LOG__LEVEL": "error",
        }
        self.cut = 0
        self.start()

    def start(self) -> None:
        import os

        command = [sys.executable, "-m", "router", "serve"]
        self._child = subprocess.Popen(command, env={**os.environ, **self._environment}, text=True)
        wait_until_ready(f"http://127.0.0.1:{self._port}", self._child)

    def count_cut_calls(self) -> None:
        """Take this life's count before it ends."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60) as page:
            self.cut += sum(int(float(n)) for n in CUT.findall(page.read().decode()))

    def kill(self) -> None:
        self.count_cut_calls()
        self._child.send_signal(signal.SIGKILL)
        self._child.wait(60)

    def stop(self) -> None:
        self.count_cut_calls()
        self._child.terminate()
        self._child.wait(60)


Said = tuple[bytes, tuple[tuple[str, str], ...]]


class Producer:
    """Plain paho-mqtt: publishes each id once, and again where the broker says that no router was listening; paho
    itself sends again what the broker has not acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.replies: dict[str, list[Said]] = {}
        self.answered_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "survive-producer", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(200)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._unheard: dict[int, str] = {}
        self.unheard = 0
        self._client.reconnect_delay_set(1, 2)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._client.loop_start()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(REPLIES, qos=1)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        assert properties is not None
        name = properties.CorrelationData.decode()
        user = tuple(map(tuple, getattr(properties, "UserProperty", ())))
        with self._lock:
            self.replies.setdefault(name, []).append((message.payload, user))
            self.answered_at.setdefault(name, time.monotonic())

    def _on_publish(self, _client: paho.Client, _data: Any, number: int, reason: Any, _properties: Any) -> None:
        """ "No matching subscribers": no router was listening, so it is ours to publish again."""
        name = self._unheard.pop(number, None)
        if name is not None and reason.value == NO_MATCHING_SUBSCRIBERS:
            self.unheard += 1
            threading.Timer(0.5, self.ask, (name,)).start()

    def ask(self, name: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = REPLIES
        properties.CorrelationData = name.encode()
        properties.UserProperty = [("request-id", name)]
        body = json.dumps({"messages": [{"role": "user", "content": f"id {name} please"}]}).encode()
        sent = self._client.publish("router/requests/survive", body, qos=1, properties=properties)
        self._unheard[sent.mid] = name

    def answered(self) -> int:
        with self._lock:
            return len(self.replies)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Calls:
    """The upstream in a thread of its own, with a record of which id was called when."""

    def __init__(self) -> None:
        self.made: list[tuple[str, float]] = []
        self._loop = asyncio.new_event_loop()
        self._script = Script(answer=words(5), first_token_s=0.15, keeps_calls=True)
        self._script.calls = _Recorder(self.made)
        self._server = OpenAIServer(self._script)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _Recorder(deque):  # type: ignore[type-arg]
    """Keeps id and time of each call, not the call."""

    def __init__(self, made: list[tuple[str, float]]) -> None:
        super().__init__(maxlen=1)
        self._made = made

    def append(self, call: Any) -> None:
        content = call.body["messages"][-1]["content"]
        self._made.append((content.split()[1], time.monotonic()))


def survive(requests: int, kills: int = 3, per_s: float = 150.0) -> dict[str, Any]:
    """Run it and count."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="survive-")))
        calls = Calls()
        stack.callback(calls.close)
        broker = Broker(folder)
        stack.callback(broker.stop)
        router = Router(folder, broker.port, calls.url)
        stack.callback(router.stop)
        producer = Producer(broker.port)
        stack.callback(producer.close)
        names = [f"s{i}" for i in range(requests)]
        _disturb(names, kills, per_s, producer, router, broker)
        return _verdict(names, producer, router, calls)


def _disturb(names: list[str], kills: int, per_s: float, producer: Producer, router: Router, broker: Broker) -> None:
    """Publish all, and at even steps of the way kill the router, or restart the broker in the middle."""
    disturbances = [router.kill] * kills
    disturbances.insert(len(disturbances) // 2, broker.stop)
    at = {len(names) * (i + 1) // (len(disturbances) + 1): d for i, d in enumerate(disturbances)}
    for number, name in enumerate(names):
        producer.ask(name)
        time.sleep(1 / per_s)
        disturb = at.get(number)
        if disturb is not None:
            disturb()
            (broker.start if disturb == broker.stop else router.start)()
    for _ in range(1200):
        if producer.answered() >= len(names):
            return
        time.sleep(0.1)


def _verdict(names: list[str], producer: Producer, router: Router, calls: Calls) -> dict[str, Any]:
    answered = [n for n in names if n in producer.replies]
    first = {n: producer.replies[n][0] for n in answered}
    again = answered[:: max(len(answered) // 100, 1)]
    seen = {n: len(producer.replies[n]) for n in again}
    calls_before = len(calls.made)
    for name in again:
        producer.ask(name)
    for _ in range(300):
        if all(len(producer.replies[n]) > seen[n] for n in again):
            break
        time.sleep(0.1)
    made = Counter(name for name, _ in calls.made)
    late = sum(at > producer.answered_at.get(name, at) for name, at in calls.made)
    router.count_cut_calls()
    cut, router.cut = router.cut, 0
    return {
        "requests": len(names),
        "answered": len(answered),
        "published_again_for_want_of_a_router": producer.unheard,
        "errors": sum(payload.startswith(b'{"error"') for payload, _ in first.values()),
        "asked_again": len(again),
        "same_bytes_again": sum(all(said == first[n] for said in producer.replies[n]) for n in again),
        "delivered_more_than_once": sum(len(producer.replies[n]) > 1 for n in answered if n not in seen),
        "calls": len(calls.made),
        "called_more_than_once": sum(count > 1 for count in made.values()),
        "called_after_answered": late,
        "called_when_asked_again": len(calls.made) - calls_before,
        "cut_calls_counted": cut,
    }


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--per-s", type=float, default=150.0)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    if MOSQUITTO is None:
        raise SystemExit("mosquitto is not installed (Debian: apt-get install mosquitto)")
    found = survive(args.requests, args.kills, args.per_s)
    for name, value in found.items():
        print(f"{name:26} {value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
