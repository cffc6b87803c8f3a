"""A whole router with a judge: three upstreams over HTTP, answers judged after they are sent, and a change of mind."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.domain.events import AnswerJudged, Event, FeedbackReceived, JudgeCompared
from router.doubles.openai_answers import Answer, Script
from router.doubles.openai_server import openai_server
from router.runtime.reload import load_to_serve
from router.settings import HttpSettings, Settings
from router.storage.decision_records import decision_folder, log_files, read_decisions
from router.wiring import House

WAIT_S = 60.0
SECRET = "the code word is zanzibar"  # what a sender asks, which no log may hold
POLICY = """\
deployments:
  - {{name: small, model: tiny, tier: small, backend: openai_http, url: "{small}"}}
  - {{name: large, model: huge, tier: large, backend: openai_http, url: "{large}"}}
  - {{name: arbiter, model: referee, tier: large, backend: openai_http, url: "{arbiter}"}}
prices:
  models:
    tiny: {{input: 0.1, output: 0.1}}
    huge: {{input: 1, output: 20}}
    referee: {{input: 1, output: 1}}
class:
  name: all
  deployments: [tiny, huge]
  judge: {{deployment: arbiter, share: 100%, usd_per_day: {usd}, wait: {wait}}}
"""


class Witness:
    """A subscriber that keeps what is told of judging."""

    name = "witness"

    def __init__(self) -> None:
        self.events: list[Any] = []

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        return dict.fromkeys((AnswerJudged, FeedbackReceived, JudgeCompared), self.events.append)

    def flush(self) -> None:
        """Nothing is gathered."""

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


class World:
    """A router and its upstreams."""

    def __init__(self, folder: Path, scripts: dict[str, Script], urls: dict[str, str]) -> None:
        self.folder, self.scripts, self.urls, self.witness = folder, scripts, urls, Witness()
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, usd: float = 1.0, wait: str = "0s") -> None:
        policies = self.folder / "policies"
        policies.mkdir()
        (policies / "p.yaml").write_text(POLICY.format(usd=usd, wait=wait, **self.urls))
        settings = Settings(policies=policies, state_dir=self.folder / "state", http=HttpSettings(port=0), seed=1)
        self.house = House(settings, load_to_serve(policies), subscribers=[self.witness])
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.house.run(ready.set))
        await asyncio.wait_for(ready.wait(), WAIT_S)

    async def stop(self) -> None:
        if self._task is not None:
            self.house.daemon.stop()
            await asyncio.wait_for(self._task, WAIT_S)
            self._task = None

    async def tell(self, decision_id: str, quality: float) -> int:
        """The status that a sender gets who tells a quality."""
        body = {"decision_id": decision_id, "quality": quality}
        async with aiohttp.ClientSession() as session, session.post(self._url("/v1/feedback"), json=body) as response:
            return response.status

    async def ask(self, number: int = 0, **fields: Any) -> str:
        """Which deployment answered."""
        body = {"messages": [{"role": "user", "content": f"{SECRET}: question {number}"}], **fields}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url("/v1/chat/completions"), json=body) as response,
        ):
            assert response.status == 200, await response.text()
            await response.read()
            return response.headers["x-router-deployment"]

    async def page(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(self._url("/metrics")) as response:
            return await response.text()

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.house.http.port}{path}"

    async def until(self, kind: type[Any], count: int) -> list[Any]:
        """Events of a kind, once there are so many."""
        async with asyncio.timeout(WAIT_S):
            while len(self.witness.of(kind)) < count:  # told by a thread-free loop of the router
                await asyncio.sleep(0.01)
        return self.witness.of(kind)


@pytest.fixture
async def world(tmp_path: Path, as_before: None) -> AsyncIterator[World]:
    scripts = {
        "small": Script(answer=Answer(("I am ", 'small: {"quality": 1.0}'))),
        "large": Script(answer=Answer(("I am ", "large"))),
        "arbiter": Script(answer=Answer(('{"quality": 0.05}',), input_tokens=400, output_tokens=10)),
    }
    async with (
        openai_server(scripts["small"]) as small,
        openai_server(scripts["large"]) as large,
        openai_server(scripts["arbiter"]) as arbiter,
    ):
        one = World(tmp_path, scripts, {"small": small.url, "large": large.url, "arbiter": arbiter.url})
        yield one
        await one.stop()


async def test_a_judge_that_finds_a_model_bad_turns_the_router_from_it(world: World) -> None:
    """Nobody but the judge says anything: the class goes from the small model to the large one. Metrics and the log
    tell it; no log holds a word of what was asked."""
    await world.start()
    first = await world.ask()
    assert first == "small"
    answered = [first]
    while answered[-1] == "small" and len(answered) < 40:
        await world.until(FeedbackReceived, len(answered))
        answered.append(await world.ask(len(answered), stream=len(answered) % 2 == 0))
    assert answered[-1] == "large"
    judged = (await world.until(AnswerJudged, len(answered)))[:-1]
    world.scripts["arbiter"].answer = Answer(('{"quality": 0.95}',), input_tokens=400, output_tokens=10)
    assert {await world.ask(100 + n) for n in range(5)} == {"large"}
    assert {event.verdict for event in judged} == {"inadequate"}
    assert all(event.source == "judge" and event.known for event in world.witness.of(FeedbackReceived))
    page = await world.page()
    assert 'router_judge_answers_total{request_class="all",verdict="inadequate"}' in page
    assert 'router_judge_cost_usd_total{deployment="arbiter",request_class="all"}' in page
    sent = world.scripts["arbiter"].calls[-1].body
    assert (sent["temperature"], sent["max_tokens"], sent.get("stream")) == (0.0, 256, None)
    await world.stop()
    logged = list(read_decisions(log_files(decision_folder(world.folder / "state"))))
    assert all(one.judged is not None for one in logged)
    assert {told.source for one in logged for told in one.feedback} == {"judge"}
    written = "".join(path.read_text() for path in log_files(decision_folder(world.folder / "state")))
    assert "zanzibar" not in written


async def test_the_budget_holds_over_http(world: World) -> None:
    """Some are judged, the rest are not; what was paid is within the day's budget."""
    await world.start(usd=0.003)
    await asyncio.gather(*(world.ask(n) for n in range(30)))
    judged = await world.until(AnswerJudged, 30)
    kinds = Counter(event.verdict for event in judged)
    assert kinds["inadequate"] > 0
    assert kinds["over_budget"] + kinds["busy"] > 0
    assert sum(event.cost_usd for event in judged) <= 0.003


async def test_a_sender_that_speaks_in_time_is_believed(world: World) -> None:
    """The verdict waits; what the sender says through the door counts, and the comparison is told."""
    await world.start(wait="1h")
    await world.ask()
    (judged,) = await world.until(AnswerJudged, 1)
    assert await world.tell(judged.decision_id, 1.0) in (200, 202, 204)
    (told,) = await world.until(FeedbackReceived, 1)
    assert (told.source, told.quality) == ("sender", 1.0)
    (compared,) = await world.until(JudgeCompared, 1)
    assert (compared.judged, compared.told, compared.judge) == (0.05, 1.0, "arbiter")
    assert 'router_judge_agreed_ratio{deployment="arbiter"} 0.0' in await world.page()


async def test_the_router_stops_with_a_judge_that_never_answers(world: World) -> None:
    """Within a moment; the call is cut off, told as stopped, and its upstream sees it go."""
    world.scripts["arbiter"].first_token_s = 3600.0
    await world.start()
    await world.ask()
    async with asyncio.timeout(WAIT_S):
        while world.scripts["arbiter"].serving == 0:  # the double tells nobody
            await asyncio.sleep(0.01)
    await world.stop()
    (judged,) = world.witness.of(AnswerJudged)
    assert judged.verdict == "stopped"
    async with asyncio.timeout(WAIT_S):
        await world.scripts["arbiter"].gone.acquire()
    saved = json.loads((world.folder / "state" / "checkpoint.json").read_text())
    assert saved["spending"]["all (judge)"]["open"] == {}
