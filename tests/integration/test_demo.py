"""`make run` as a newcomer and a producer meet it: the real command, the official client, an edit, an orderly end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import openai
import pytest

WAIT_S, LOOK_S = 120.0, 0.02
POLICIES = Path(__file__).parents[2] / "policies"
ASK = [{"role": "user", "content": "Sum up in one line: the parcel came late and torn."}]


class Demo:
    """A running demo: its base URL, and the lines it prints."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "router", "demo", "--port", "0", *arguments]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.child.stdout is not None
        self.said = ""
        while (found := re.search(r"metrics\s+(http://\S+)/metrics", self.said)) is None:
            line = self.child.stdout.readline()
            assert line, self.said
            self.said += line
        self.url = found[1]
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.said += line

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as page:
            return bytes(page.read())

    def end(self) -> int:
        """Ask it to end, and its exit status."""
        self.child.terminate()
        return self.wait()

    def wait(self) -> int:
        status = self.child.wait(WAIT_S)
        self._reader.join()
        assert self.child.stdout is not None
        self.child.stdout.close()
        return status


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped policies, to edit."""
    return Path(shutil.copytree(POLICIES, tmp_path_factory.mktemp("demo") / "policies"))


@pytest.fixture(scope="module")
def demo(policies: Path) -> Iterator[Demo]:
    running = Demo("--policies", str(policies), "--rate", "5")
    yield running
    assert running.end() == 0, running.said


@pytest.fixture(scope="module")
def client(demo: Demo) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="unused", max_retries=0) as found:
        yield found


def test_chat_with_headers_that_say_how_it_was_made(demo: Demo, client: openai.OpenAI) -> None:
    """An answer, its usage, and a decision that can be looked up by the id in the header."""
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASK)  # type: ignore[arg-type]
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert raw.headers["x-router-deployment"] in {"small", "large", "large-reserved"}
    decision = json.loads(demo.get(f"/v1/decisions/{raw.headers['x-router-decision-id']}"))
    assert decision["chosen"] == raw.headers["x-router-deployment"]
    assert sum(c["propensity"] for c in decision["candidates"]) == pytest.approx(1.0)


def test_streaming_with_usage(client: openai.OpenAI) -> None:
    """Pieces, one finish reason, and the usage chunk only because it was asked for."""
    options = {"include_usage": True}
    with client.chat.completions.create(
        model="small",
        messages=ASK,  # type: ignore[arg-type]
        stream=True,
        stream_options=options,  # type: ignore[arg-type]
        max_tokens=12,
    ) as stream:
        chunks = list(stream)
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


@pytest.mark.parametrize(
    ("wrong", "kind", "code"),
    [
        ({"model": "gpt-99", "messages": ASK}, openai.NotFoundError, "model_not_found"),
        ({"model": "auto", "messages": []}, openai.BadRequestError, "invalid_request"),
        ({"model": "auto", "messages": ASK, "max_tokens": -1}, openai.BadRequestError, "invalid_request"),
    ],
)
def test_errors_are_the_clients_own(
    client: openai.OpenAI, wrong: dict[str, object], kind: type[openai.APIStatusError], code: str
) -> None:
    """Wrong requests raise the exception that the client's users expect, with a stable code."""
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**wrong)  # type: ignore[call-overload]
    assert refused.value.code == code


def test_models_and_readiness(demo: Demo, client: openai.OpenAI) -> None:
    """What can be asked for by name, and that it is ready."""
    names = {model.id for model in client.models.list()}
    assert {"auto", "chat", "small", "large"} <= names
    assert json.loads(demo.get("/readyz"))["ready"]


def until(what: Callable[[], bool]) -> None:
    """Wait for something that the demo does."""
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end, f"not within {WAIT_S:.0f} s"
        time.sleep(LOOK_S)


def info(demo: Demo) -> str:
    found = re.search(r'^router_policy_info\{[^}]*digest="(\w+)"[^}]*\} 1', demo.get("/metrics").decode(), re.M)
    assert found is not None
    return found[1]


def test_an_edit_is_taken_up_and_a_bad_one_is_not(demo: Demo, policies: Path) -> None:
    """While it runs: a bad edit changes nothing and is said with its line; a good one comes into force."""
    before = info(demo)
    chat = policies / "classes" / "chat.yaml"
    good = chat.read_text().replace("ttft: 500ms", "ttft: 450ms")
    chat.write_text(good.replace("priority:", "priorty:"))
    until(lambda: "did you mean `priority`" in demo.said)
    assert "chat.yaml:" in demo.said
    assert info(demo) == before
    chat.write_text(good)
    until(lambda: info(demo) != before)


def test_for_ends_by_itself_with_a_summary() -> None:
    """`--for` ends with status 0, and everything that was sent is answered."""
    demo = Demo("--for", "3", "--rate", "10")
    assert demo.wait() == 0, demo.said
    found = re.search(r"producer: sent (\d+), answered (\d+), errors 0, unanswered 0", demo.said)
    assert found is not None, demo.said
    assert found[1] == found[2]
    assert "objectives met" in demo.said
