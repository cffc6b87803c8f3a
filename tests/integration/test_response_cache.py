"""The response cache and the shaping of requests through both doors, with a real dispatcher and real upstream calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import mqtt5
import openai
import pytest
from prometheus_client import CollectorRegistry

from router.backends.openai_http import OpenAIHttpBackend
from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.events import CacheUsed, Event
from router.domain.outcome import Attempt, Delta
from router.domain.request import Request
from router.domain.slo import CacheTerms, Match, Parameters, RequestClass, Style
from router.doubles.mqtt_broker import Broker, RawClient
from router.doubles.openai_answers import words
from router.doubles.openai_server import OpenAIServer, openai_server
from router.ingress.http import HttpIngress, HttpOptions
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.policy.policy import Bounds, Policy
from router.runtime.clock import RealClock
from router.runtime.dispatcher import Dispatcher
from router.storage.journal import SqliteJournal
from router.telemetry.metrics import Metrics, render
from router.telemetry.sink import Sink
from router.wire.openai.shape import INSTRUCTION

WAIT_S = 60.0
ASK: list[Any] = [{"role": "user", "content": "hi"}]
SAID = "".join(words(8).pieces)
KEPT = RequestClass("kept", parameters=Parameters(temperature=0.0), cache=CacheTerms(3600.0))
BRIEF = RequestClass("brief", match=Match(models=("brief",)), style=Style.CONCISE, input_budget_tokens=80)


class Estimator:
    """Everything is chat."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.9})


class Told:
    """A sink that remembers."""

    def __init__(self, policy: Policy) -> None:
        self.events: list[Event] = []
        self.registry = CollectorRegistry()
        self._sink = Sink(Metrics(policy, self.registry).subscribers)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._sink.emit(event)

    def used(self) -> list[str]:
        return [event.result for event in self.events if isinstance(event, CacheUsed)]

    def page(self) -> str:
        self._sink.drain_all()
        return render(self.registry)[0].decode()


class Gated(OpenAIHttpBackend):
    """Calls upstream once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.may.set()

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await self.may.wait()
        async for delta in super().open(attempt):
            yield delta


class World:
    """A router between its HTTP door and one upstream."""

    def __init__(self, upstream: OpenAIServer, backend: Gated) -> None:
        self.script, self.may_call = upstream.script, backend.may
        served = Deployment(
            name=DeploymentName("one"),
            group="one",
            model="m",
            tier=Tier.SMALL,
            kind=Kind.CONTINUOUS,
            address=Address("openai_http", "m", url=upstream.url),
            price=Price(1.0, 2.0),
        )
        policy = Policy("p1", (BRIEF, KEPT), (served,), Bounds())
        self.told = Told(policy)
        controller = Controller(policy, Estimator(), rng=Random(0))
        self.dispatcher = Dispatcher(controller, {"openai_http": backend}, RealClock(), self.told)

    def asked(self) -> list[dict[str, Any]]:
        """The bodies that the upstream got."""
        return [call.body for call in self.script.calls]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with openai_server() as upstream:
        backend = Gated()
        yield World(upstream, backend)
        await backend.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    ingress = HttpIngress(HttpOptions(port=0), world.dispatcher, world.told, lambda: (b"", "text/plain"))
    await ingress.start()
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{ingress.port}/v1", api_key="k", max_retries=0, timeout=WAIT_S
    ) as one:
        yield one
    await ingress.stop(grace_s=0)


async def test_a_repeated_call_is_answered_from_the_cache(client: openai.AsyncOpenAI, world: World) -> None:
    """The same answer under the same decision, and the headers say that it is cached and costs nothing."""
    ask = client.chat.completions.with_raw_response
    first = await ask.create(model="auto", messages=ASK)
    second = await ask.create(model="auto", messages=ASK, temperature=0, user="someone")
    assert second.parse().choices[0].message.content == first.parse().choices[0].message.content == SAID
    assert len(world.asked()) == 1
    assert "x-router-cache" not in first.headers
    assert second.headers["x-router-cache"] == "hit"
    assert float(second.headers["x-router-cost-usd"]) == 0.0
    assert second.headers["x-router-attempts"] == "0"
    assert second.headers["x-router-decision-id"] == first.headers["x-router-decision-id"]
    assert second.headers["x-router-deployment"] == "one"


@pytest.mark.parametrize("leads", [False, True])
async def test_streams_and_whole_answers_serve_one_another(
    client: openai.AsyncOpenAI, world: World, leads: bool
) -> None:
    """Whichever asks first; the stream of a hit is a whole stream, with its usage."""

    async def streamed() -> tuple[str, str | None, int]:
        stream = await client.chat.completions.create(
            model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].usage is not None
        return said, reasons[-1], chunks[-1].usage.completion_tokens

    async def whole() -> tuple[str, str | None, int]:
        said = await client.chat.completions.create(model="auto", messages=ASK)
        assert said.usage is not None
        return said.choices[0].message.content or "", said.choices[0].finish_reason, said.usage.completion_tokens

    first, second = (streamed, whole) if leads else (whole, streamed)
    assert await first() == await second() == (SAID, "stop", 8)
    assert len(world.asked()) == 1


async def test_many_equal_calls_at_once_are_one(client: openai.AsyncOpenAI, world: World) -> None:
    """All wait for it, and all are answered."""
    world.may_call.clear()
    calls = [asyncio.ensure_future(client.chat.completions.create(model="auto", messages=ASK)) for _ in range(32)]
    async with asyncio.timeout(WAIT_S):
        while world.dispatcher.in_flight < 32:
            await asyncio.sleep(0.005)
    world.may_call.set()
    said = await asyncio.gather(*calls)
    assert {one.choices[0].message.content for one in said} == {SAID}
    assert len(world.asked()) == 1
    assert Counter(world.told.used()) == {"miss": 1, "joined": 31}


async def test_a_client_that_leaves_hands_over(client: openai.AsyncOpenAI, world: World) -> None:
    """The one whose call it was hangs up; who waited gets its answer by a second call."""
    world.script.first_token_s = 3600.0
    leader = asyncio.ensure_future(client.chat.completions.create(model="auto", messages=ASK))
    async with asyncio.timeout(WAIT_S):
        while not world.script.serving:
            await asyncio.sleep(0.005)
        follower = asyncio.ensure_future(client.chat.completions.create(model="auto", messages=ASK))
        while world.dispatcher.in_flight < 2:
            await asyncio.sleep(0.005)
        world.script.first_token_s = 0.0
        leader.cancel()
        assert (await follower).choices[0].message.content == SAID
    assert len(world.asked()) == 2


async def test_a_shaped_request_reaches_the_upstream_short_and_with_its_instruction(
    client: openai.AsyncOpenAI, world: World
) -> None:
    """Old turns are gone, the instruction ends the system prompt, and the metrics say what was saved."""
    system = {"role": "system", "content": "Be kind."}
    old = [{"role": "user", "content": "x " * 400}, {"role": "assistant", "content": "y"}]
    await client.chat.completions.create(model="brief", messages=[system, *old, *ASK])  # type: ignore[list-item]
    (sent,) = world.asked()
    assert sent["messages"] == [{"role": "system", "content": f"Be kind.\n\n{INSTRUCTION}"}, *ASK]
    page = world.told.page()
    saved = next(
        line for line in page.splitlines() if line.startswith("router_input_tokens_saved_total") and "budget" in line
    )
    assert float(saved.split()[-1]) > 200.0


async def test_the_metrics_tell_hits_from_calls(client: openai.AsyncOpenAI, world: World) -> None:
    """A hit is counted for its class under deployment `cache`, and for the deployment there is one call."""
    for _ in range(3):
        await client.chat.completions.create(model="auto", messages=ASK)
    lines = world.told.page().splitlines()
    assert 'router_cache_requests_total{request_class="kept",result="hit"} 2.0' in lines
    ended = [line for line in lines if line.startswith("router_requests_total") and not line.endswith(" 0.0")]
    assert sorted(line.split('deployment="')[1].split('"')[0] + line[-4:] for line in ended) == ["cache 2.0", "one 1.0"]


async def test_a_queue_is_answered_from_the_cache(world: World, tmp_path: Path) -> None:
    """Whole and streamed, with the user property that says so; an id that was answered before stays in front of it."""
    async with Broker() as broker:
        journal = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
        ingress = MqttIngress(MqttOptions(url=broker.url), world.dispatcher, journal, world.told)
        run = asyncio.create_task(ingress.run())
        client = await RawClient.connected(broker.port, "producer", clean_start=True)
        await client.subscribe("replies/#")
        try:
            async with asyncio.timeout(WAIT_S):
                while not ingress.is_connected:
                    await asyncio.sleep(0.005)
                (first,) = await ask(client, "r1", {})
                (hit,) = await ask(client, "r2", {})
                (again,) = await ask(client, "r1", {})
                streamed = await ask(client, "r3", {"stream": True})
        finally:
            await client.close()
            await ingress.stop(0.0)
            await run
            await journal.close()
    assert "router-cache" not in dict(first.user_properties)
    assert dict(hit.user_properties)["router-cache"] == "hit"
    assert "router-cache" not in dict(again.user_properties)
    assert json.loads(hit.payload)["choices"] == json.loads(first.payload)["choices"]
    assert dict(streamed[0].user_properties)["router-cache"] == "hit"
    assert SAID in json.loads(streamed[0].payload)["choices"][0]["delta"]["content"]
    assert len(world.asked()) == 1
    assert world.told.used() == ["miss", "hit", "hit"]


async def ask(client: RawClient, request_id: str, fields: dict[str, Any]) -> list[mqtt5.PublishPacket]:
    """Ask once; every message of the reply, the last being final."""
    body = json.dumps({"messages": ASK, **fields}).encode()
    properties = [("request-id", request_id)]
    client.publish("router/requests/chat", body, qos=1, user_properties=properties, response_topic="replies/1")
    packets: list[mqtt5.PublishPacket] = []
    while not packets or ("stream" in fields and dict(packets[-1].user_properties).get("final") != "true"):
        packet = await client.receive()
        if isinstance(packet, mqtt5.PublishPacket):
            client.acknowledge([packet])
            packets.append(packet)
    return packets
