"""What a running router has learned is looked at, reset, frozen, exported and imported. A real process over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.http_path import wait_until_ready
from bench.ports import free_port
from router.cli.main import app

POLICY = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
prices:
  models: {llama-3.1-8b: {input: 0.22, output: 0.22}}
"""
KEY, PRODUCER, WAIT_S = "an-operators-key", "a-producers-key", 60.0


class Served:
    """`router serve` with a key, started and stopped as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.state, self._policies = folder / "state", folder / "policies"
        self._policies.mkdir()
        (self._policies / "fleet.yaml").write_text(POLICY)
        self._log = (folder / "log").open("w+")
        self.start()

    def start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "PATH": "/usr/bin:/bin",
            "ROUTER_HTTP__PORT": str(port),
            "ROUTER_HTTP__API_KEYS": PRODUCER,
            "ROUTER_HTTP__ADMIN_KEYS": KEY,
            "ROUTER_POLICIES": str(self._policies),
            "ROUTER_STATE_DIR": str(self.state),
        }
        command = [sys.executable, "-m", "router", "serve"]
        self.child = subprocess.Popen(command, env=environment, stderr=self._log, text=True)
        wait_until_ready(self.url, self.child)

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(60)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        self.stop()
        self._log.close()

    def call(self, path: str, body: object = None) -> Any:
        key = KEY if path.startswith("/v1/learned") else PRODUCER
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            return json.loads(answer.read())

    def ask_and_judge(self, times: int, quality: float) -> None:
        """Ask something, and tell how good the answer was."""
        for i in range(times):
            said = [{"role": "user", "content": f"What is {i} times seven?"}]
            answer = self.call("/v1/chat/completions", {"model": "auto", "messages": said, "max_tokens": 5})
            self.call("/v1/feedback", {"decision_id": answer["id"], "quality": quality})

    def seen(self) -> int:
        """Feedbacks behind what is believed of the model."""
        models = self.call("/v1/learned")["models"]
        return int(models["llama-3.1-8b"]["quality"]["seen"]) if models.get("llama-3.1-8b", {}).get("quality") else 0

    def metric(self, line: str) -> bool:
        """Whether `/metrics` comes to have this line."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as page:
                if line in page.read().decode().splitlines():
                    return True
            time.sleep(0.05)
        return False


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.close()


def learned(*arguments: str, key: str | None = KEY) -> tuple[int, str]:
    """`router learned ...`: exit status, and what it said or why it refused."""
    environment = {"COLUMNS": "200", "ROUTER_ADMIN_KEY": key}
    result = CliRunner().invoke(app, ["learned", *arguments], env=environment)
    return result.exit_code, result.stdout if result.exit_code == 0 else str(result.exception)


def test_the_learned_state_of_a_running_router(served: Served, tmp_path: Path) -> None:
    """Learned from feedback, shown, carried away, forgotten, frozen over a restart, thawed and brought back."""
    served.ask_and_judge(6, 0.0)
    assert served.seen() == 6
    assert "asks for a key" in learned("show", "--url", served.url, key=None)[1]
    assert "operator's key" in learned("reset", "--all", "--url", served.url, key=PRODUCER)[1]
    status, page = learned("show", "--url", served.url)
    assert (status, "llama-3.1-8b" in page, "stands" in page) == (0, True, True)

    document = tmp_path / "learned.json"
    assert learned("export", "--url", served.url, "--out", str(document))[0] == 0
    assert "seven" not in document.read_text()
    assert "forgotten" in learned("reset", "--what", "quality", "--url", served.url)[1]
    assert served.seen() == 0

    assert "frozen: ceilings, checks, lengths, quality" in learned("freeze", "--url", served.url)[1]
    served.ask_and_judge(3, 0.0)
    assert served.seen() == 0
    assert served.metric('router_learning_frozen{part="quality"} 1.0')

    before = served.call("/v1/learned")["lineage"]
    served.stop()
    assert "frozen, nothing is learned of" in learned("show", "--state", str(served.state))[1]
    served.start()
    assert served.metric('router_learning_frozen{part="quality"} 1.0')
    after = served.call("/v1/learned")
    assert after["frozen"] == ["ceilings", "checks", "lengths", "quality"]
    assert [step["what"] for step in after["lineage"]["history"]] == ["born", "reset", "frozen"]
    assert after["lineage"]["seen"]["feedback"] == before["seen"]["feedback"] == 6

    assert "everything is learned" in learned("thaw", "--url", served.url)[1]
    assert "llama-3.1-8b" in learned("import", str(document), "--url", served.url)[1]
    assert served.seen() == 6
    served.ask_and_judge(1, 1.0)
    assert served.seen() == 7
    assert served.metric('router_learned_changes_total{change="imported",part="quality"} 1.0')
    for line in ("learned_reset", "learning_frozen", "learned_imported"):
        assert line in served.log()
