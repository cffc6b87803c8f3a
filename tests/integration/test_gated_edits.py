"""A running router whose canaries wait for its own decision log. A real process, over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.http_path import wait_until_ready
from bench.ports import free_port

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated, price_usd_per_mtok: {input: 5, output: 5}}
"""
CLASS = "class: {{name: all, parameters: {{max_tokens: 8}}, exploration: 50%, rollout: {}{}}}\n"
FREE, WAIT_S = "{mode: canary}", 60.0
BODY = json.dumps(
    {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
).encode()


class Served:
    """`router serve` over a directory, with a log to which small is bad and large is good."""

    def __init__(self, folder: Path) -> None:
        self.policies, port = folder / "policies", free_port()
        self.policies.mkdir()
        (self.policies / "fleet.yaml").write_text(FLEET)
        self.edit(FREE)
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "PATH": "/usr/bin:/bin",
            "ROUTER_HTTP__PORT": str(port),
            "ROUTER_POLICIES": str(self.policies),
            "ROUTER_STATE_DIR": str(folder / "state"),
        }
        self._log = (folder / "log").open("w+")
        command = [sys.executable, "-m", "router", "serve"]
        self.child = subprocess.Popen(command, env=environment, stderr=self._log, text=True)
        try:
            wait_until_ready(self.url, self.child)
        except BaseException:
            self.stop()
            raise

    def edit(self, rollout: str, more: str = "") -> None:
        fresh = self.policies / ".class.yaml"
        fresh.write_text(CLASS.format(rollout, more))
        fresh.replace(self.policies / "class.yaml")

    def call(self, path: str, body: bytes | None = None) -> Any:
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=60) as page:
            return json.loads(page.read()), page.headers

    def ask(self, _: int) -> str:
        """One request, and what its sender thinks of the answer; who gave it."""
        _, headers = self.call("/v1/chat/completions", BODY)
        who = headers["x-router-deployment"]
        told = {"decision_id": headers["x-router-decision-id"], "quality": float(who == "large")}
        self.call("/v1/feedback", json.dumps(told).encode())
        return str(who)

    def standing(self, state: str) -> dict[str, Any]:
        """How the class's rollout stands, once that is so."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            for rollout in self.call("/v1/policy")[0]["rollouts"]:
                if rollout["state"] == state and rollout["waits_for"] != "the decision log is being asked":
                    return dict(rollout)
            time.sleep(0.1)
        raise AssertionError(self.call("/v1/policy")[0])

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(60)
        self._log.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.stop()


def test_an_edit_begins_only_where_the_log_speaks_for_it(served: Served) -> None:
    """With an empty log it waits, and says what it lacks. On a log in which large is good, one to large alone begins at
    its first step; one to small alone, which is bad, is refused with the figures and gets no request."""
    gated = "{mode: canary, steps: [50], require: {quality_low: 60%}}"
    served.edit(gated, ", deployments: [large]")
    assert "the log holds no decision" in served.standing("waiting")["waits_for"]
    served.edit(FREE)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(served.ask, range(600))) == {"small", "large"}
    served.edit(gated, ", deployments: [small]")
    refused = served.standing("refused")
    assert refused["ratio"] == 0.0
    assert "required at least 0.6" in refused["reason"]
    served.edit(gated, ", deployments: [large]")
    assert served.standing("canary")["ratio"] == 0.5
