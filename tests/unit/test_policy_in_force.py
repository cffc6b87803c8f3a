"""The whole router in one process: what an edit does to it, and what it says of the edit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from router.domain.events import Event, PolicyApplied, PolicyRejected, PolicySource
from router.domain.slo import Indicator, Objective, Objectives
from router.doubles.openai_server import OpenAIServer, openai_server
from router.policy.policy import Policy
from router.runtime.reload import load_to_serve
from router.settings import HttpSettings, Settings
from router.storage.history_entries import history_file, read_history
from router.wiring import House

FLEET = """\
deployments:
  - name: far
    model: llama
    tier: small
    backend: openai_http
    url: {url}
    api_key_file: {key}
    price_usd_per_mtok: {{input: 0.1, output: 0.1}}
class: {{name: default, parameters: {{max_tokens: {tokens}}}}}
"""


class Witness:
    """A subscriber that keeps the events of edits."""

    name = "witness"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        return {PolicyApplied: self.events.append, PolicyRejected: self.events.append}

    def flush(self) -> None:
        """Nothing is gathered."""


class Running:
    """A router that runs, and the ways to edit and to ask it."""

    def __init__(self, folder: Path, double: OpenAIServer) -> None:
        self.folder, self.double, self.witness = folder, double, Witness()
        self.key = folder / "key"
        self.policies = folder / "policies"
        self.key.write_text("sk-one")
        settings = Settings(
            policies=self.policies, state_dir=folder / "state", http=HttpSettings(port=0), history_entries=100
        )
        self.house = House(settings, self.write(self.policies, 100), subscribers=[self.witness])

    def write(self, directory: Path, tokens: int) -> Policy:
        """A policy in a fresh directory."""
        directory.mkdir()
        (directory / "all.yaml").write_text(FLEET.format(url=self.double.url, key=self.key, tokens=tokens))
        return load_to_serve(directory)

    async def ask(self) -> tuple[int, str]:
        """Ceiling and key of a call upstream."""
        async with aiohttp.ClientSession() as session:
            body = {"messages": [{"role": "user", "content": "hello"}]}
            url = f"http://127.0.0.1:{self.house.http.port}/v1/chat/completions"
            async with session.post(url, json=body) as response:
                assert response.status == 200, await response.text()
        call = self.double.script.calls[-1]
        return call.body["max_tokens"], call.headers["authorization"]

    async def detail(self) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.house.http.port}/readyz") as response,
        ):
            assert response.status == 200
            return str(json.loads(await response.read())["detail"])


@pytest.fixture
async def running(tmp_path: Path, as_before: None) -> AsyncIterator[Running]:
    async with openai_server() as double:
        one = Running(tmp_path, double)
        ready = asyncio.Event()
        task = asyncio.create_task(one.house.run(ready.set))
        await asyncio.wait({asyncio.ensure_future(ready.wait()), task}, return_when=asyncio.FIRST_COMPLETED)
        yield one
        one.house.daemon.stop()
        await task


async def test_a_rotated_key_is_used_from_the_next_call_on(running: Running) -> None:
    """Under the same policy, without a restart; the event says which deployment it is for, and never the key."""
    assert await running.ask() == (100, "Bearer sk-one")
    beside = running.key.with_name("next")
    beside.write_text("sk-two")
    beside.replace(running.key)
    policy = running.house.controller.policy
    running.house.apply(policy, PolicySource(str(running.policies), (str(running.key),)))
    assert await running.ask() == (100, "Bearer sk-two")
    running.house.sink.drain_all()
    event = next(e for e in running.witness.events if isinstance(e, PolicyApplied))
    assert (event.old, event.new) == (policy.digest, policy.digest)
    assert event.diff == (f"deployment far: api_key_file {running.key} holds something else",)
    assert event.source == PolicySource(str(running.policies), (str(running.key),))


async def test_a_refused_edit_is_told_until_a_good_one_comes(running: Running) -> None:
    """Also where the good one is the text that was in force all along."""
    policy = running.house.controller.policy
    assert await running.detail() == f"policy {policy.digest}"
    running.house._reject("bad", ("all.yaml:1:1: oh",), PolicySource("policies", ("all.yaml",)))
    running.house.sink.drain_all()
    assert await running.detail() == f"policy {policy.digest} in force; edit of all.yaml refused: all.yaml:1:1: oh"
    assert await running.ask() == (100, "Bearer sk-one")
    running.house.apply(policy, PolicySource("policies"))
    running.house.sink.drain_all()
    assert await running.detail() == f"policy {policy.digest}"


async def test_an_edit_is_in_the_history_with_its_source(running: Running) -> None:
    """After the start of the router. The edit stands where no watch sees it: `apply` is what a watch calls."""
    old, source = running.house.controller.policy.digest, PolicySource("policies", ("all.yaml",), "c0ffee", "Ada")
    edited = running.write(running.folder / "edited", 200)
    running.house.apply(edited, source)
    assert (await running.ask())[0] == 200
    running.house.sink.drain_all()
    running.house.history.close()
    begun, applied = read_history(history_file(running.folder / "state"))
    assert (begun.why, begun.new) == ("the router started", old)
    assert (applied.old, applied.new, applied.author, applied.commit) == (old, edited.digest, "Ada", "c0ffee")
    assert any("max_tokens" in line for line in applied.details)


def restarted(running: Running) -> House:
    """Another process on the same state directory and policy directory."""
    return House(running.house.settings, load_to_serve(running.policies))


async def test_an_edit_that_was_taken_back_stays_back_after_a_crash(running: Running) -> None:
    """Nothing was saved in an orderly way: what is in force was written when it changed."""
    house = running.house
    edited = FLEET.replace("{tokens}}}}}", "{tokens}}}, rollout: {{mode: canary, percent: 50}}}}")
    text = edited.format(url=running.double.url, key=running.key, tokens=200)
    beside = running.folder / "edited.yaml"
    beside.write_text(text)
    beside.replace(running.policies / "all.yaml")
    house.apply(load_to_serve(running.policies))
    trial = house.controller.rollouts.trials["default"]
    for second in range(10):
        trial.evidence.on_failed(Objectives(ttft=Objective(Indicator.TTFT, 0.5)), now=house.clock.now() - second)
    house.dispatcher.tick()
    for _ in range(10):
        house.dispatcher.tick()
    house.sink.drain_all()
    again = restarted(running)
    assert again.controller.rollouts.trials["default"].taken_back
    assert {c.parameters.max_tokens for c in again.controller.policy.classes} == {100}


async def test_a_state_of_rollouts_that_cannot_be_read_is_kept_aside(running: Running) -> None:
    """What is written is in force then, and the file is there to look at."""
    path = running.folder / "state" / "rollouts.json"
    running.house.sink.drain_all()
    path.write_bytes(b"{}")
    again = restarted(running)
    assert {c.parameters.max_tokens for c in again.controller.policy.classes} == {100}
    assert path.with_suffix(".unreadable").read_bytes() == b"{}"
