"""A running router whose policies are edited: what becomes of requests, and who is told. Real processes and broker."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from bench.edits import soak
from bench.http_path import wait_until_ready
from bench.ports import free_port
from bench.survive import MOSQUITTO, Broker

STATUS = "router/policy/status"
FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models: {llama-3.1-8b: {input: 0.22, output: 0.22}}
"""
WAIT_S = 60.0


async def test_edits_cost_no_request_and_mix_no_snapshot() -> None:
    """A config map that is swapped, files renamed and written over, a third of them with mistakes, a rotated key: every
    request is answered, and the parameters that it was sent on with are those of the digest it was answered under."""
    found = await soak(seconds=5.0, edits=10, per_s=40.0, warm_up_s=0.5)
    assert (found["requests"], found["failed"], found["first_failures"]) == (240, 0, [])
    assert (found["unknown_digest"], found["mixed"], found["wrong_key"]) == (0, 0, 0)
    assert found["digests_seen"] > 1
    assert found["refused"] > 0
    assert found["last_edit_in_force"]
    before, after = (found["memory"][when] for when in ("before", "after_as_much_without"))
    assert after["Policy"] <= before["Policy"]
    assert after["Member"] == before["Member"]


class Served:
    """`router serve` over a directory, told of by every way there is."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.policies, self.state, port = folder / "policies", folder / "state", free_port()
        self.policies.mkdir()
        (self.policies / "fleet.yaml").write_text(FLEET)
        self.edit("class: {name: chat, deadline: 1s}\n")
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "PATH": "/usr/bin:/bin",
            "ROUTER_MQTT__URL": f"mqtt://127.0.0.1:{broker_port}",
            "ROUTER_MQTT__CLIENT_ID": "live-edits",
            "ROUTER_HTTP__PORT": str(port),
            "ROUTER_POLICIES": str(self.policies),
            "ROUTER_STATE_DIR": str(self.state),
        }
        self._log = (folder / "log").open("w+")
        self.child = subprocess.Popen(
            [sys.executable, "-m", "router", "serve"], env=environment, stderr=self._log, text=True
        )
        wait_until_ready(self.url, self.child)

    def edit(self, text: str) -> None:
        fresh = self.policies / ".chat.yaml"
        fresh.write_text(text)
        fresh.replace(self.policies / "chat.yaml")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as page:
            return str(page.read().decode())

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(60)
        self._log.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path / "broker"
    folder.mkdir()
    one = Broker(folder)
    yield one
    one.stop()


@pytest.fixture
def served(tmp_path: Path, broker: Broker) -> Iterator[Served]:
    one = Served(tmp_path, broker.port)
    yield one
    one.stop()


Said = queue.Queue[tuple[dict[str, Any], bool]]


@pytest.fixture
def subscribe(broker: Broker) -> Iterator[Callable[[], Said]]:
    """Plain paho clients: each gets what is retained, then what is said."""
    clients: list[paho.Client] = []

    def make() -> Said:
        said: Said = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, f"watcher-{len(clients)}", protocol=paho.MQTTv5)
        client.on_connect = lambda one, *_: one.subscribe(STATUS, qos=1)
        client.on_message = lambda _one, _data, m: said.put((json.loads(m.payload), m.retain))
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        clients.append(client)
        return said

    yield make
    for client in clients:
        client.disconnect()
        client.loop_stop()


def until(said: Said, state: str) -> dict[str, Any]:
    """The next status of that state."""
    while True:
        status, _ = said.get(timeout=WAIT_S)
        if status["state"] == state:
            return status


def test_a_refused_edit_is_seen_by_everyone_who_looks(served: Served, subscribe: Callable[[], Said]) -> None:
    """The old policy goes on; broker, readiness, metrics, log and history say what is wrong with the edit and where;
    all say that it is over once it is. The history outlives the process."""
    early = subscribe()
    first = until(early, "in_force")
    served.edit("class: {name: chat, deadlin: 2s}\n")
    refused = until(early, "edit_refused")
    assert (refused["digest"], refused["router"]) == (first["digest"], "live-edits")
    assert refused["problems"][0].startswith(f"{served.policies}/chat.yaml:1:21: class.deadlin")
    late, retained = subscribe().get(timeout=WAIT_S)
    assert (late, retained) == (refused, True)
    ready = json.loads(served.get("/readyz"))
    assert ready["ready"] is True
    assert ready["detail"].startswith(f"policy {first['digest']} in force; edit of chat.yaml refused: ")
    metrics = served.get("/metrics")
    assert 'router_policy_reloads_total{result="rejected"} 1.0' in metrics
    assert "router_policy_last_reload_success_ratio 0.0" in metrics
    assert "policy_rejected" in served.log()
    served.edit("class: {name: chat, deadline: 3s}\n")
    fixed = until(early, "in_force")
    assert fixed["digest"] != first["digest"]
    assert json.loads(served.get("/readyz"))["detail"] == f"policy {fixed['digest']}"
    served.stop()
    shown = subprocess.run(
        [sys.executable, "-m", "router", "policy", "history", "--state", str(served.state), "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    entries = [json.loads(line) for line in shown.stdout.splitlines()]
    policies = [(e["state"], e.get("files")) for e in entries if e["what"] == "policy"]
    assert policies == [("in force", None), ("refused", ["chat.yaml"]), ("applied", ["chat.yaml"])]
    assert "class chat: deadline_s 1s -> 3s" in entries[-1]["details"]


def test_a_broker_that_comes_back_is_told_again(
    served: Served, broker: Broker, subscribe: Callable[[], Said], tmp_path: Path
) -> None:
    """At every connection: what the broker had kept may be lost."""
    until(subscribe(), "in_force")
    broker.stop()
    (tmp_path / "broker" / "mosquitto.db").unlink(missing_ok=True)
    broker.start()
    assert until(subscribe(), "in_force")["router"] == "live-edits"
