"""A router whose servers tell their own load: real connections, two servers that others use as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from router.domain.control.servers import ServerHeard
from router.domain.control.stability import KnowledgeChanged
from router.domain.events import DecisionMade, Event
from router.doubles.openai_answers import Script, words
from router.doubles.openai_server import OpenAIServer, openai_server
from router.policy.policy import Policy
from router.runtime.reload import load_to_serve
from router.settings import HttpSettings, Settings
from router.wiring import House

OTHERS = 60
WAIT_S = 60.0
DEPLOYMENT = """\
  - name: {name}
    model: llama-3.1-8b
    tier: small
    backend: openai_http
    url: {url}
    step_ms: {{base: 5, per_sequence: 1, per_context_token: 0, per_prefill_token: 0.01}}
    price_usd_per_mtok: {{input: 0.1, output: 0.1}}
{telemetry}
"""
CLASS = "class: {name: default, objectives: {tpot: 40ms}}\n"
TELEMETRY = "    telemetry: {every: 200ms, timeout: 190ms}"


class Witness:
    """A subscriber that keeps decisions, and what is known of servers."""

    name = "witness"

    def __init__(self) -> None:
        self.events: list[Event] = []

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        return dict.fromkeys((DecisionMade, KnowledgeChanged, ServerHeard), self.events.append)

    def flush(self) -> None:
        """Nothing is gathered."""

    def known(self, name: str) -> list[str]:
        """How much was known of a deployment, in order."""
        return [e.new for e in self.events if isinstance(e, KnowledgeChanged) and e.deployment == name]

    def tells(self, name: str) -> list[bool]:
        return [e.tells for e in self.events if isinstance(e, ServerHeard) and e.deployment == name]


class Running:
    """A router over two servers, those servers, and the ways to ask both."""

    def __init__(self, folder: Path, servers: dict[str, OpenAIServer]) -> None:
        self.folder, self.servers, self.witness, self.asked = folder, servers, Witness(), 0
        settings = Settings(policies=folder / "first", state_dir=folder / "state", http=HttpSettings(port=0), seed=1)
        self.house = House(settings, self.write("first"), subscribers=[self.witness])

    def write(self, directory: str, *silent: str) -> Policy:
        """A policy in a fresh directory; those named have no telemetry."""
        path = self.folder / directory
        path.mkdir()
        fleet = "".join(
            DEPLOYMENT.format(name=name, url=one.url, telemetry="" if name in silent else TELEMETRY)
            for name, one in self.servers.items()
        )
        (path / "all.yaml").write_text(f"deployments:\n{fleet}{CLASS}")
        return load_to_serve(path)

    def others(self, name: str) -> float:
        """Sequences of others that are seen on a server."""
        return self.house.controller.fleet.members[name].account.outside  # type: ignore[index]

    async def ask(self, count: int) -> list[int]:
        """Status of so many requests to the router, one after another."""
        url = f"http://127.0.0.1:{self.house.http.port}/v1/chat/completions"
        statuses: list[int] = []
        self.asked += count
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                async with session.post(url, json={"messages": [{"role": "user", "content": "hello"}]}) as response:
                    await response.read()
                    statuses.append(response.status)
        return statuses

    async def last_decision(self) -> DecisionMade:
        """Of the request asked last, once it is told."""
        made: list[DecisionMade] = []

        def are_told() -> bool:
            made[:] = [e for e in self.witness.events if isinstance(e, DecisionMade)]
            return len(made) == self.asked

        await until(are_told)
        return made[-1]

    async def says(self, line: str) -> None:
        """Wait until the router's own metrics say so."""
        async with asyncio.timeout(WAIT_S):
            while line not in await self._page():
                await asyncio.sleep(0.02)

    async def _page(self) -> str:
        url = f"http://127.0.0.1:{self.house.http.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def crowd(server: OpenAIServer) -> AsyncIterator[None]:
    """Others, who do not come through the router: so many streams that stand after their first word for the length of
    a block. Who comes meanwhile is answered in eight words."""
    gap_s, server.script.gap_s = server.script.gap_s, 3600.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asked = {"messages": [{"role": "user", "content": "x"}], "stream": True, "others": True}
        calls = [await session.post(f"{server.url}/chat/completions", json=asked) for _ in range(OTHERS)]
        server.script.gap_s = gap_s
        yield
        for call in calls:
            call.close()
        for _ in calls:
            await server.script.gone.acquire()


@pytest.fixture
async def running(tmp_path: Path, as_before: None) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(openai_server(Script(answer=words(8), gap_s=0.01)))
            for name in ("busy", "calm")
        }
        one = Running(tmp_path, servers)
        ready = asyncio.Event()
        task = asyncio.create_task(one.house.run(ready.set))
        await asyncio.wait({asyncio.ensure_future(ready.wait()), task}, return_when=asyncio.FIRST_COMPLETED)
        yield one
        one.house.daemon.stop()
        await task
        assert one.house.servers.asked == ()


def _sees_the_others(event: DecisionMade) -> bool:
    """Whether the evidence has the busy server slower by far, or full."""
    seen = {str(candidate.deployment): candidate for candidate in event.decision.candidates}
    if any(out.deployment == "busy" and out.code == "at_limit" for out in event.decision.excluded):
        return True
    return "busy" in seen and seen["busy"].terms.tpot_s > 2.0 * seen["calm"].terms.tpot_s


async def test_decisions_see_what_others_send_to_a_server(running: Running) -> None:
    """Sixty streams past the router: the server tells them, the evidence has it slower than the other one, which is
    chosen; once they have gone they are seen no more. Every request is answered."""
    busy = running.servers["busy"]
    await until(lambda: busy.script.asked > 3)
    assert running.others("busy") == 0.0
    async with crowd(busy):
        await until(lambda: running.others("busy") > 0.95 * OTHERS)
        assert running.others("calm") == 0.0
        async with asyncio.timeout(WAIT_S):
            while True:  # a poll that is late on a busy machine may have been waited for in vain
                assert await running.ask(1) == [200]
                decided = await running.last_decision()
                if _sees_the_others(decided):
                    break
        assert decided.decision.chosen == "calm"
        await running.says('router_server_sequences{deployment="busy",state="running"} 60.0')
    await until(lambda: running.others("busy") < 0.5)
    await until(lambda: running.witness.tells("busy")[-1:] == [True])


async def test_a_server_that_stops_telling_is_served_by_the_ledger(running: Running) -> None:
    """The router says so, goes on answering everything, and believes the server again once it tells its load."""
    busy = running.servers["busy"]
    async with crowd(busy):
        await until(lambda: running.others("busy") > 0.95 * OTHERS)
        busy.script.tells_load = False
        await until(lambda: "ledger" in running.witness.known("busy") and running.witness.tells("busy")[-1:] == [False])
        await running.says('router_server_up{deployment="busy"} 0.0')
        assert await running.ask(5) == [200] * 5
        busy.script.tells_load = True
        await until(lambda: running.witness.known("busy")[-1] == "fresh" and running.witness.tells("busy")[-1])
    assert running.witness.known("calm") == []


async def test_an_edit_stops_and_starts_the_questions(running: Running) -> None:
    """Without `telemetry` a server is not asked from the moment the policy is in force; with it, it is again."""
    busy, calm = running.servers.values()
    await until(lambda: busy.script.asked > 3)
    both = set(running.house.servers.asked)
    assert len(both) == 2
    running.house.apply(running.write("second", "busy"))
    count, others = busy.script.asked, calm.script.asked
    await until(lambda: calm.script.asked > others + 5)
    assert busy.script.asked <= count + 1
    assert len(running.house.servers.asked) == 1
    running.house.apply(running.write("third"))
    await until(lambda: busy.script.asked > count + 3)
    assert set(running.house.servers.asked) == both
    assert await running.ask(3) == [200] * 3
