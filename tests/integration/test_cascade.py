"""The cascade through both doors, by OpenAI's own client and over a broker, with two upstreams over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
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
from router.domain.events import CascadeChecked, Event, IngressEvent, RequestEnded
from router.domain.request import Request
from router.domain.slo import Cascade, Check, Match, RequestClass
from router.doubles.mqtt_broker import Broker, RawClient
from router.doubles.openai_answers import Answer, Refusal, Script
from router.doubles.openai_server import OpenAIServer, openai_server
from router.ingress.http import HttpIngress, HttpOptions
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.policy.policy import Bounds, Policy
from router.runtime.clock import RealClock
from router.runtime.dispatcher import Dispatcher
from router.storage.journal import SqliteJournal
from router.telemetry.metrics import Metrics, render
from router.telemetry.sink import Sink

WAIT_S = 60.0
ASK: list[Any] = [{"role": "user", "content": "Who wrote the first program?"}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CHECKED = RequestClass("checked", cascade=Cascade(tuple(Check), stream=True, max_wait_s=60.0, threshold=0.35))
PLAIN = RequestClass("plain", match=Match(models=("plain",)))


class Estimator:
    """Small is adequate for half, large for nearly all."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 0.95})


class World:
    """A router between its HTTP door and a cheap and a dear upstream."""

    def __init__(self, small: OpenAIServer, large: OpenAIServer, backend: OpenAIHttpBackend) -> None:
        self.small, self.large = small.script, large.script
        fleet = tuple(
            Deployment(
                name=DeploymentName(name),
                group=name,
                model=f"model-{name}",
                tier=tier,
                kind=Kind.CONTINUOUS,
                address=Address("openai_http", name, url=server.url),
                price=price,
            )
            for name, tier, server, price in (
                ("small", Tier.SMALL, small, Price(1.0, 1.0)),
                ("large", Tier.LARGE, large, Price(1.0, 60.0)),
            )
        )
        policy = Policy("p1", (PLAIN, CHECKED), fleet, Bounds())
        self.events: list[Event] = []
        self.registry = CollectorRegistry()
        self._sink = Sink(Metrics(policy, self.registry).subscribers)
        self.controller = Controller(policy, Estimator(), rng=Random(0))
        self.dispatcher = Dispatcher(self.controller, {"openai_http": backend}, RealClock(), self)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._sink.emit(event)

    def only(self, kind: type[Any]) -> Any:
        (event,) = (event for event in self.events if type(event) is kind)
        return event

    def page(self) -> str:
        self._sink.drain_all()
        return render(self.registry)[0].decode()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    small = Script(answer=Answer(("Ada ", "Lovelace, ", "of course"), output_tokens=100))
    large = Script(answer=Answer(('{"name": ', '"Ada Lovelace"}'), output_tokens=50))
    async with openai_server(small) as one, openai_server(large) as other:
        backend = OpenAIHttpBackend()
        yield World(one, other, backend)
        await backend.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    ingress = HttpIngress(HttpOptions(port=0), world.dispatcher, world, lambda: (b"", "text/plain"))
    await ingress.start()
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{ingress.port}/v1", api_key="k", max_retries=0, timeout=WAIT_S
    ) as one:
        yield one
    await ingress.stop(grace_s=0)


def verifying(**asked: Any) -> dict[str, str]:
    """Metadata as OpenAI takes it: text."""
    return {"verify": json.dumps(asked)}


async def test_prose_where_json_was_asked_for_is_made_again(world: World, client: openai.AsyncOpenAI) -> None:
    """The sender sees the second answer; headers and events carry both calls; `verify` goes no further."""
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, metadata=verifying(json_schema=SCHEMA)
    )
    said = raw.parse()
    assert json.loads(said.choices[0].message.content or "") == {"name": "Ada Lovelace"}
    assert raw.headers["x-router-deployment"] == "large"
    assert raw.headers["x-router-attempts"] == "2"
    assert [len(script.calls) for script in (world.small, world.large)] == [1, 1]
    assert all("metadata" not in call.body for script in (world.small, world.large) for call in script.calls)
    ended, told = world.only(RequestEnded), world.only(CascadeChecked)
    assert (told.why, told.passed, told.escalated) == ("json", False, True)
    assert float(raw.headers["x-router-cost-usd"]) == pytest.approx(ended.cost_usd, abs=1e-9)
    assert ended.cost_usd == pytest.approx(1e-6 + 100e-6 + 1e-6 + 50 * 60e-6)
    assert 'router_cascade_answers_total{request_class="checked",result="escalated",why="json"} 1.0' in world.page()


async def test_an_answer_that_fits_costs_one_call(world: World, client: openai.AsyncOpenAI) -> None:
    """What passes is sent."""
    world.small.answer = world.large.answer
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, metadata=verifying(json_schema=SCHEMA)
    )
    assert raw.headers["x-router-deployment"] == "small"
    assert len(world.large.calls) == 0
    assert world.only(CascadeChecked).passed


async def test_a_held_stream_shows_only_the_answer_that_was_kept(world: World, client: openai.AsyncOpenAI) -> None:
    """Not a piece of the first leaves; the second streams."""
    stream = await client.chat.completions.create(
        model="auto", messages=ASK, metadata=verifying(regex=r'^\{"name"'), stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == '{"name": "Ada Lovelace"}'
    assert [len(script.calls) for script in (world.small, world.large)] == [1, 1]


async def test_a_class_without_a_cascade_sends_what_comes(world: World, client: openai.AsyncOpenAI) -> None:
    """The same request, another class: one call, no check."""
    said = await client.chat.completions.create(model="plain", messages=ASK, metadata=verifying(json_schema=SCHEMA))
    assert said.choices[0].message.content == "Ada Lovelace, of course"
    assert not any(isinstance(event, CascadeChecked) for event in world.events)


async def test_a_wrong_schema_is_told_before_any_call(world: World, client: openai.AsyncOpenAI) -> None:
    """A 400 that names the field and what is understood."""
    with pytest.raises(openai.BadRequestError, match="`if` is not understood") as caught:
        await client.chat.completions.create(
            model="auto", messages=ASK, metadata=verifying(json_schema={"if": {"type": "string"}})
        )
    assert caught.value.param == "metadata.verify.json_schema"
    assert len(world.small.calls) == 0


async def test_an_upstream_that_fails_at_the_second_call_costs_no_answer(
    world: World, client: openai.AsyncOpenAI
) -> None:
    """The first answer is still there."""
    world.large.refuse = Refusal(503)
    said = await client.chat.completions.create(model="auto", messages=ASK, metadata=verifying(json_schema=SCHEMA))
    assert said.choices[0].message.content == "Ada Lovelace, of course"


async def test_sureness_is_asked_of_the_upstream_and_kept_from_the_sender(
    world: World, client: openai.AsyncOpenAI
) -> None:
    """A class that looks at log-probabilities asks for them; the sender sees them where it asked too."""
    world.small.answer = Answer(("Ada ",), logprob=-3.0)
    said = await client.chat.completions.create(model="auto", messages=ASK)
    told = world.only(CascadeChecked)
    assert dict(told.grades)["logprob"] == "fail"
    assert world.small.calls[0].body["logprobs"] is True
    assert said.choices[0].logprobs is None
    said = await client.chat.completions.create(model="auto", messages=ASK, logprobs=True)
    assert world.small.calls[-1].body["logprobs"] is True
    plain = await client.chat.completions.create(model="plain", messages=ASK)
    assert "logprobs" not in world.small.calls[-1].body
    assert plain.choices[0].logprobs is None


async def test_a_callback_without_a_broker_is_refused(world: World, client: openai.AsyncOpenAI) -> None:
    """A 400 that says what to do instead, before any call."""
    with pytest.raises(openai.BadRequestError, match="this router has no broker; leave it out") as caught:
        await client.chat.completions.create(model="auto", messages=ASK, metadata=verifying(callback="plant/checks"))
    assert caught.value.param == "metadata.verify.callback"
    assert len(world.small.calls) == 0


class Judge:
    """A client of the broker that is asked about answers, and says what it was told to."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.questions: list[mqtt5.PublishPacket] = []
        self.says = b'{"passed": false}'
        self._task = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        while True:
            packet = await self.client.receive()
            if isinstance(packet, mqtt5.PublishPacket):
                self.client.acknowledge([packet])
                self.questions.append(packet)
                if self.says:
                    assert packet.response_topic is not None
                    self.client.publish(
                        packet.response_topic, self.says, qos=1, correlation_data=packet.correlation_data
                    )

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()


class Queue:
    """A broker with the router's door to it, a producer and a judge."""

    def __init__(self, broker: Broker, producer: RawClient, judge: Judge) -> None:
        self.broker, self._producer, self.judge = broker, producer, judge

    async def ask(self, request_id: str, **asked: Any) -> mqtt5.PublishPacket:
        """Ask once, for the reply."""
        body = json.dumps({"messages": ASK, "metadata": {"verify": asked}}).encode()
        properties = [("request-id", request_id)]
        self._producer.publish(
            "router/requests/chat", body, qos=1, user_properties=properties, response_topic="replies/1"
        )
        while True:
            packet = await self._producer.receive()
            if isinstance(packet, mqtt5.PublishPacket):
                self._producer.acknowledge([packet])
                return packet


@pytest.fixture
async def queue(world: World, tmp_path: Path) -> AsyncIterator[Queue]:
    async with Broker() as broker:
        journal = SqliteJournal(tmp_path / "journal.db", synchronous="OFF")
        ingress = MqttIngress(MqttOptions(url=broker.url), world.dispatcher, journal, world)
        world.dispatcher.cascade.verifier = ingress.verdicts
        run = asyncio.create_task(ingress.run())
        producer = await RawClient.connected(broker.port, "producer", clean_start=True)
        listener = await RawClient.connected(broker.port, "judge", clean_start=True)
        await listener.subscribe("plant/checks")
        judge = Judge(listener)
        await producer.subscribe("replies/#")
        async with asyncio.timeout(WAIT_S):
            while not ingress.is_connected:
                await asyncio.sleep(0.005)
            yield Queue(broker, producer, judge)
        await producer.close()
        await judge.close()
        await ingress.stop(0.0)
        await run
        await journal.close()


async def test_a_producer_checks_the_answer_on_its_own_topic(world: World, queue: Queue) -> None:
    """The answer goes to the callback topic with Response Topic and Correlation Data; the verdict that comes back
    decides whether it is sent, or another. The reply carries both calls."""
    reply = await queue.ask("r1", callback="plant/checks")
    assert json.loads(json.loads(reply.payload)["choices"][0]["message"]["content"]) == {"name": "Ada Lovelace"}
    properties = dict(reply.user_properties)
    assert properties["router-deployment"] == "large"
    assert properties["router-attempts"] == "2"
    (question,) = queue.judge.questions
    asked = json.loads(question.payload)
    assert asked["choices"][0]["message"]["content"] == "Ada Lovelace, of course"
    assert asked["request_id"] == "r1"
    assert dict(question.user_properties)["router-deployment"] == "small"
    assert dict(world.only(CascadeChecked).grades)["callback"] == "fail"
    assert 0 < question.message_expiry_interval <= 60, "what is left of the wait"
    queue.judge.says = b'{"passed": true}'
    reply = await queue.ask("r2", callback="plant/checks")
    assert dict(reply.user_properties)["router-deployment"] == "small"


async def test_where_nobody_listens_the_answer_is_sent_at_once(world: World, queue: Queue) -> None:
    """The broker says so when it takes the question; nobody is waited for."""
    reply = await queue.ask("r1", callback="plant/nobody")
    assert dict(reply.user_properties)["router-deployment"] == "small"
    assert world.only(RequestEnded).e2e_s < CHECKED.cascade.max_wait_s  # type: ignore[union-attr]
    assert "callback" not in dict(world.only(CascadeChecked).grades)


async def test_a_verdict_that_cannot_be_read_is_passed_over(world: World, queue: Queue) -> None:
    """It is told as an event, and the wait goes on to its bound."""
    queue.judge.says = b"yes, fine"
    asking = asyncio.ensure_future(queue.ask("r1", callback="plant/checks"))
    while not any(isinstance(e, IngressEvent) and e.what == "invalid" for e in world.events):
        await asyncio.sleep(0.005)
    (question,) = queue.judge.questions
    queue.judge.client.publish(
        question.response_topic or "", b'{"passed": true}', qos=1, correlation_data=question.correlation_data
    )
    assert dict((await asking).user_properties)["router-deployment"] == "small"
    assert dict(world.only(CascadeChecked).grades)["callback"] == "pass"


async def test_the_routers_own_topics_are_no_callback(world: World, queue: Queue) -> None:
    """An answer that was sent there would be read as a request."""
    reply = await queue.ask("r1", callback="router/requests/chat")
    assert json.loads(reply.payload)["error"]["param"] == "metadata.verify.callback"
    assert len(world.small.calls) == 0


async def test_a_callback_serves_the_http_door_too(world: World, client: openai.AsyncOpenAI, queue: Queue) -> None:
    """With a broker in between, whoever asks over HTTP may name a topic as well."""
    raw = await client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, metadata=verifying(callback="plant/checks")
    )
    assert raw.headers["x-router-deployment"] == "large"
    assert len(queue.judge.questions) == 1
