"""Requests through the HTTP door, a policy and the dispatcher to SageMaker endpoints: by the batch, and by variant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import aioboto3
import msgspec
import openai
import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.backends.aws.sessions import Clients
from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.domain.control.batches import BatchEnded
from router.domain.deployment import Tier
from router.domain.events import AttemptEnded, Event
from router.domain.request import Request
from router.doubles.aws.models import Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.server import AwsDouble, aws_double
from router.ingress.http import HttpIngress, HttpOptions
from router.policy.compile import compile_policy
from router.runtime.clock import RealClock
from router.runtime.dispatcher import Dispatcher

WAIT_S = 60.0
PRICE = "price_usd_per_mtok: {input: 1, output: 2}, region: eu-west-1"
BATCH = "kind: batch, max_items: 8, batch_ms: {base: 40, per_item: 5}"


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Estimator:
    """Everything is chat."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.9})


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


@asynccontextmanager
async def door(double: AwsDouble, *deployments: str) -> AsyncIterator[tuple[openai.AsyncOpenAI, Told, Dispatcher]]:
    """A client of a router with these deployments on the double, what is told, and the router itself."""
    rows = "".join(
        f"  - {{model: m, tier: small, backend: sagemaker, url: '{double.url}', {PRICE}, {d}}}\n" for d in deployments
    )
    documents = [("f.yaml", f"deployments:\n{rows}"), ("c.yaml", "class: {name: default, deadline: 20s}\n")]
    backend, told = SageMakerBackend(Clients(aioboto3.Session("test", "test"))), Told()
    controller = Controller(compile_policy(documents), Estimator(), rng=Random(0))
    dispatcher = Dispatcher(controller, {"sagemaker": backend}, RealClock(), told)
    ingress = HttpIngress(HttpOptions(port=0), dispatcher, told, lambda: (b"", "text/plain"))
    await ingress.start()
    url = f"http://127.0.0.1:{ingress.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0, timeout=WAIT_S) as client:
        yield client, told, dispatcher
    await ingress.stop(grace_s=0)
    await backend.close()


async def ask(client: openai.AsyncOpenAI, said: str) -> str | None:
    answer = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": said}])
    return answer.choices[0].message.content


async def test_a_batch_endpoint_is_sent_lists() -> None:
    """Twenty at once go out in a few lists, none longer than it takes, and the tuner hears how long each took."""
    have_all_come = asyncio.Event()

    async def answer_once_all_have_come(seconds: float) -> None:
        await have_all_come.wait()
        await asyncio.sleep(seconds)

    async with aws_double() as double:
        double.world.sleep = answer_once_all_have_come
        variant = Variant(batch_s=0.04, item_s=0.005, answer_tokens=3)
        double.world.endpoints["e"] = Endpoint("e", "jumpstart", [variant])
        async with door(double, f"name: batch, target: e, {BATCH}") as (client, told, dispatcher):
            asking = [asyncio.ensure_future(ask(client, f"number {i}")) for i in range(20)]
            async with asyncio.timeout(WAIT_S):
                while dispatcher.in_flight < 20:
                    await asyncio.sleep(0.005)
            have_all_come.set()
            answers = await asyncio.gather(*asking)
    assert answers == ["word0 word1 word2 "] * 20
    lists = [msgspec.json.decode(call.params["Body"])["inputs"] for call in double.world.calls]
    assert sorted(text for one in lists for text in one) == sorted(f"User: number {i}\n\nAssistant:" for i in range(20))
    assert len(lists) < 10
    assert max(map(len, lists)) <= 8
    ended = [event for event in told.events if isinstance(event, BatchEnded)]
    assert sorted(event.items for event in ended) == sorted(map(len, lists))
    assert all(event.took_s > 0.04 and event.code is None for event in ended)


async def test_variants_of_an_endpoint_are_deployments() -> None:
    """Each is asked for by name, measured on its own and recorded: the slow one with at least the time that it takes,
    and either with no more than its client waited."""
    waited_s: list[float] = []
    async with aws_double() as double:
        slow, fast = Variant("slow", speed=Speed(0.0, 0.0, 0.05)), Variant("fast", speed=Speed(0.0, 0.0, 0.0))
        double.world.endpoints["e"] = Endpoint("e", "openai", [slow, fast])
        rows = [f"name: {name}, target: e, aws: {{variant: {name}}}" for name in ("slow", "fast")]
        async with door(double, *rows) as (client, told, _):
            for name in ("slow", "fast", "slow", "fast"):
                began = time.monotonic()
                async for _ in await client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": "Hi"}], stream=True
                ):
                    pass
                waited_s.append(time.monotonic() - began)
    assert [call.params["TargetVariant"] for call in double.world.calls] == ["slow", "fast", "slow", "fast"]
    outcomes = [event.outcome for event in told.events if isinstance(event, AttemptEnded)]
    assert [o.served_as for o in outcomes] == ["slow", "fast", "slow", "fast"]
    took_s = [o.ended - o.attempt.started for o in outcomes]
    assert min(took_s[::2]) >= 7 * 0.05
    assert all(0.0 < took <= waited for took, waited in zip(took_s, waited_s, strict=True))
    assert all(o.tpot_s is not None for o in outcomes)
