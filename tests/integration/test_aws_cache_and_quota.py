"""Prompt caching and on-demand quotas through the dispatcher, the real SDK and the AWS double on a loopback port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any

import aioboto3
import msgspec
import pytest

from bench.virtual_bedrock import text
from router.backends.aws.bedrock import BedrockBackend
from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.aws.terms import Api, AwsTerms, CacheTerms, CallQuota
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, LimitKind, LimitTerms, Price, Tier
from router.domain.events import AttemptEnded, Event
from router.domain.outcome import Outcome, Reply
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.doubles.aws.models import Model, Prices, Quota, Speed
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World
from router.policy.policy import Policy
from router.runtime.dispatcher import Dispatcher
from router.wire.openai import Envelope, read_request

CLAUDE = "anthropic.claude-3-5-haiku-20241022-v1:0"
PRICE = Price(0.8, 4.0, cache_read_usd_per_mtok=0.08, cache_write_usd_per_mtok=1.0)


class Adequate:
    """Every model is."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.0, "chat", {}, {Tier.SMALL: 1.0, Tier.LARGE: 1.0})


class Service:
    """A router in front of the double."""

    def __init__(self, world: World, url: str) -> None:
        loop = asyncio.get_running_loop()
        self.now, self.at, self.stopwatch = loop.time, time.time, time.perf_counter
        self.world, self._url, self.events = world, url, list[Event]()
        self.dispatcher: Dispatcher | None = None
        session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
        self.backend = BedrockBackend(session)

    def serve(self, terms: AwsTerms) -> None:
        """Begin with one deployment."""
        deployment = Deployment(
            name=DeploymentName("haiku"),
            group="haiku",
            model="haiku",
            tier=Tier.SMALL,
            kind=Kind.CONTINUOUS,
            address=Address("bedrock", CLAUDE, url=self._url, region="us-east-1", aws=terms),
            price=PRICE,
            limit=LimitTerms(LimitKind.FIXED, 500),
        )
        self.controller = Controller(Policy("test", (RequestClass("all"),), (deployment,)), Adequate(), rng=Random(0))
        self.dispatcher = Dispatcher(self.controller, {"bedrock": self.backend}, self, self)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def calls(self) -> list[Outcome]:
        return [event.outcome for event in self.events if isinstance(event, AttemptEnded)]

    async def ask(self, turns: Sequence[tuple[str, str]], **body: Any) -> Reply:
        messages = [{"role": role, "content": said} for role, said in turns]
        payload = msgspec.json.encode({"messages": messages, "stream": True, **body})
        assert self.dispatcher is not None
        return await self.dispatcher.submit(read_request(payload, Envelope("r", self.now(), self.at(), "test")))

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self.dispatcher is not None:
                self.dispatcher.tick()


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with aws_double(World()) as double:
        one = Service(double.world, double.url)
        heart = asyncio.ensure_future(one.beat())
        yield one
        heart.cancel()
        await one.backend.close()
        assert double.world.drift == []


@pytest.mark.parametrize("api", [Api.CONVERSE, Api.INVOKE])
async def test_the_second_turn_reads_what_the_first_wrote(service: Service, api: Api) -> None:
    """By Converse and by InvokeModel: the first call writes the system prompt; the second reads it and writes the
    turns, as the conversation may go on; and each is booked as it is billed."""
    service.world.models = {CLAUDE: Model(CLAUDE, prices=Prices(0.8, 4.0))}
    service.serve(AwsTerms(api=api, cache=CacheTerms()))
    said = [("system", text("system", 1500))]
    for number in range(3):
        said.append(("user", f"question {number}"))
        await service.ask(said, max_tokens=50)
        said.append(("assistant", "an answer"))
    calls = service.calls()
    assert [(c.cached_tokens, c.cache_written_tokens) for c in calls][:2] == [(0, 1500), (1500, 6)]
    assert calls[2].cached_tokens >= 1500
    assert [c.cost_usd for c in calls] == pytest.approx([b.usd for b in service.world.bills])


async def test_no_more_calls_run_than_the_quota_holds(service: Service) -> None:
    """200,000 tokens a minute hold three calls that may answer with 64,000. Twelve come at once: three run at a time,
    all are answered, and none is throttled."""
    quota = Quota(tokens_per_min=200_000.0)
    service.world.models = {CLAUDE: Model(CLAUDE, quota=quota, speed=Speed(first_token_s=0.2), answer_tokens=2)}
    service.serve(AwsTerms(quota=CallQuota(tokens_per_min=200_000.0)))
    replies = await asyncio.gather(*(service.ask([("user", f"hello {n}")], max_tokens=64_000) for n in range(12)))
    assert len(replies) == 12
    assert {call.error_code for call in service.calls()} == {None}
    spans = sorted((c.attempt.started, c.ended) for c in service.calls())
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == 3


async def test_a_throttle_says_what_was_short_and_teaches_the_quota(service: Service) -> None:
    """The same without a word of the quota: the SDK's error is read, and three calls of 64,000 are what is learned."""
    quota = Quota(tokens_per_min=200_000.0)
    service.world.models = {CLAUDE: Model(CLAUDE, quota=quota, speed=Speed(first_token_s=0.5), answer_tokens=2)}

    async def once_all_have_come(seconds: float) -> None:
        async with asyncio.timeout(60.0):
            while len(service.world.calls) < 8:
                await asyncio.sleep(0.005)
        await asyncio.sleep(seconds)

    service.world.sleep = once_all_have_come
    service.serve(AwsTerms())
    asked = (service.ask([("user", f"hello {n}")], max_tokens=64_000) for n in range(8))
    await asyncio.gather(*asked, return_exceptions=True)
    assert {call.short_of for call in service.calls() if call.error_code} == {"tokens"}
    allowance = service.controller.fleet.members[DeploymentName("haiku")].allowance
    assert allowance is not None
    assert allowance.state()[0] == 0.0
    assert 150_000.0 < allowance.state()[1] < 200_000.0
