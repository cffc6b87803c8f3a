"""Invoices worked by hand, line by line, against what the router books for the same calls.

The prices on the left of each line are of the list that ships; every sum is written out, in USD.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from router.core.spending.billing import bill
from router.domain.deployment import Deployment
from router.domain.errors import Unreachable
from router.domain.events import AttemptEnded, RequestEnded
from router.domain.outcome import Attempt, Delta, Reply, Usage
from router.domain.slo import Budget, RequestClass
from router.policy.compile import compile_policy
from router.policy.policy import Policy
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import log_files, read_decisions
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink
from router.wire.openai import whole_choices
from router.wire.openai.reply import receipt_fields
from router.wire.openai.response import read_response
from tests.regressions.house import Answer, House, virtually

AWS, LITELLM = "shipped:2025-07-20", "shipped:2026-11-21"
HAIKU, SONNET = "us.anthropic.claude-3-5-haiku-20241022-v1:0", "anthropic.claude-3-5-sonnet-20241022-v2:0"
LLAMA, NOVA = "us.meta.llama3-1-70b-instruct-v1:0", "amazon.nova-pro-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"


def deployed(target: str, **fields: Any) -> Deployment:
    """A deployment, on Bedrock unless it says otherwise, as a policy document gives it."""
    lines = [f"  {field}: {value}" for field, value in {"backend": "bedrock", "model": "m", **fields}.items()]
    head = ["deployments:", "- name: d", "  tier: small", f"  target: {target}"]
    (found,) = compile_policy([("f.yaml", "\n".join((*head, *lines)))]).deployments
    return replace(found, address=replace(found.address, backend="scripted"))


def answering(usage: Usage, **said: Any) -> Answer:
    """A call that is counted so."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.1)
        yield Delta(whole_choices("x", "stop"), usage.output_tokens, "stop", usage, whole=True, **said)

    return script


def played(deployment: Deployment, usage: Usage, **said: Any) -> tuple[House, Reply]:
    """One request served by the deployment: what was told, and the reply."""
    house = House(RequestClass("all", budget=Budget(usd_per_day=100.0)), deployments=(deployment,))
    house.backend.scripts = {"d": answering(usage, **said)}
    replies: list[Reply] = []

    async def scene() -> None:
        replies.append(await house.ask(input_tokens=usage.input_tokens))

    virtually(scene)
    return house, replies[0]


def check(house: House, reply: Reply, usd: float, source: str) -> None:
    """The same sum and source on the call, the request, the receipt, its header, and in the books of the day."""
    outcome, ended = house.only(AttemptEnded).outcome, house.only(RequestEnded)
    for told in (outcome, ended, reply.receipt):
        assert told.cost_usd == pytest.approx(usd)
        assert told.cost_source == source
    assert dict(receipt_fields(reply.receipt))["cost-source"] == source
    assert house.controller.spending.books()["all"].spent_usd == pytest.approx(usd)


def test_a_plain_call() -> None:
    """Claude 3.5 Haiku, on demand:

    1,200 input at 0.80 a million = 0.00096; 300 output at 4.00 = 0.00120.
    """
    house, reply = played(deployed(HAIKU), Usage(1_200, 300))
    check(house, reply, 0.00096 + 0.00120, AWS)
    assert house.only(AttemptEnded).outcome.served_otherwise is None


def test_a_cached_prefix() -> None:
    """Claude 3.5 Sonnet v2 with a prompt cache, first the write, then the read of 9,000 tokens:

    write: 1,000 plain at 3.00 = 0.0030; 9,000 written at 3.75 = 0.03375; 200 output at 15.00 = 0.0030 -> 0.03975.
    read: 1,000 plain at 3.00 = 0.0030; 9,000 read at 0.30 = 0.0027; 200 output at 15.00 = 0.0030 -> 0.0087.
    """
    sonnet = deployed(SONNET, aws="{cache: {ttl: 5m}}")
    check(*played(sonnet, Usage(10_000, 200, cache_written_tokens=9_000)), 0.03975, AWS)
    check(*played(sonnet, Usage(10_000, 200, cached_tokens=9_000)), 0.0087, AWS)


def test_a_prefix_that_is_kept_for_an_hour() -> None:
    """Claude Haiku 4.5 writes to the cache at 1.25 a million, at 2.00 where the prefix is kept for an hour:

    1,000 plain at 1.00 = 0.001; 9,000 written at 2.00 = 0.018; 100 output at 5.00 = 0.0005.
    """
    haiku = deployed("anthropic.claude-haiku-4-5-20251001-v1:0", aws="{cache: {ttl: 1h}}")
    check(*played(haiku, Usage(10_000, 100, cache_written_tokens=9_000)), 0.0195, LITELLM)


def test_optimized_latency_that_was_served_as_standard() -> None:
    """Llama 3.1 70B, asked for with optimised latency at 0.90 a million; over its quota it is served, and billed, as
    standard at 0.72:

    as asked: 2,000 + 500 tokens at 0.90 = 0.00225.
    as served: 2,000 + 500 tokens at 0.72 = 0.00180.
    """
    llama, usage = deployed(LLAMA, aws="{latency: optimized}"), Usage(2_000, 500)
    check(*played(llama, usage, served_as="optimized"), 0.00225, AWS)
    house, reply = played(llama, usage, served_as="standard")
    check(house, reply, 0.00180, f"{AWS}, served as standard")
    assert house.only(AttemptEnded).outcome.served_otherwise == "standard"


def test_service_tiers() -> None:
    """Nova Pro, 10,000 input and 1,000 output tokens, standard 0.80 and 3.20 a million:

    priority, 1.75 times: 10,000 at 1.40 = 0.0140; 1,000 at 5.60 = 0.0056 -> 0.0196.
    flex, half: 10,000 at 0.40 = 0.0040; 1,000 at 1.60 = 0.0016 -> 0.0056.
    priority, served in the default tier: 10,000 at 0.80 = 0.0080; 1,000 at 3.20 = 0.0032 -> 0.0112.
    """
    usage = Usage(10_000, 1_000)
    check(*played(deployed(NOVA, lane="priority"), usage, served_as="priority"), 0.0196, AWS)
    check(*played(deployed(NOVA, lane="flex"), usage, served_as="flex"), 0.0056, AWS)
    house, reply = played(deployed(NOVA, lane="priority"), usage, served_as="default")
    check(house, reply, 0.0112, f"{AWS}, served as default")


def test_a_tier_of_an_api_that_gave_another() -> None:
    """GPT-5 asked for at priority; the answer says in `service_tier` that it was served in the default tier:

    1,000 input at 1.25 = 0.00125; 100 output at 10.00 = 0.0010.
    """
    said = read_response(
        b'{"choices": [{"finish_reason": "stop"}], "service_tier": "default", "model": "gpt-5-2025-08-07", '
        b'"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}'
    )
    gpt = deployed("gpt-5", backend="openai_http", url="http://h/v1", lane="priority")
    assert said.usage is not None
    house, reply = played(gpt, said.usage, served_as=said.served_as, served_model=said.served_model)
    check(house, reply, 0.00225, f"{LITELLM}, served as default")


def test_a_batch_job() -> None:
    """Llama 3.1 70B in a batch job, half of 0.72 a million: 1,000 records of 3,000 input and 200 output tokens:

    3,000,000 at 0.36 = 1.08; 200,000 at 0.36 = 0.072 -> 1.152.
    """
    job = deployed(LLAMA, kind="job", job="{s3: 's3://bucket/p', role_arn: 'arn:aws:iam::123456789012:role/r'}")
    records = [bill(job, Usage(3_000, 200), served_as=None, served_model=None) for _ in range(1_000)]
    assert sum(one.usd for one in records) == pytest.approx(1.152)
    assert {one.source for one in records} == {AWS}


def test_a_prompt_router() -> None:
    """A prompt router is paid as the model it chose for each call: 1,000 input and 200 output tokens,

    Claude 3 Haiku: 1,000 at 0.25 = 0.00025; 200 at 1.25 = 0.00025 -> 0.0005.
    Claude 3.5 Sonnet: 1,000 at 3.00 = 0.003; 200 at 15.00 = 0.003 -> 0.006.
    """
    fields = {"price_usd_per_mtok": "{input: 3.00, output: 15.00}"}
    chosen = "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"
    house, reply = played(deployed(ROUTER, **fields), Usage(1_000, 200), served_model=chosen)
    check(house, reply, 0.0005, f"{AWS}, served as claude-3-haiku")
    house, reply = played(deployed(ROUTER, **fields), Usage(1_000, 200), served_model=SONNET)
    check(house, reply, 0.006, f"{AWS}, served as claude-3-5-sonnet")


def test_a_model_that_nobody_has_a_price_of() -> None:
    """It costs as the deployment says, and the source says that too: 1,000 at 3.00 = 0.003; 200 at 15.00 = 0.003."""
    routed = deployed(ROUTER, price_usd_per_mtok="{input: 3.00, output: 15.00}")
    house, reply = played(routed, Usage(1_000, 200), served_model="anthropic.claude-9-cosmos-v1:0")
    check(house, reply, 0.006, "policy, as asked, though served as other")


def test_provisioned_hours() -> None:
    """Two model units at 21.18 an hour: the tokens of a call are free, the day costs 2 * 24 * 21.18 = 1,016.64."""
    units = deployed(
        "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/x",
        kind="provisioned",
        hourly_usd=2 * 21.18,
        tokens_per_min="{input: 100000, output: 20000}",
    )
    house, reply = played(units, Usage(10_000, 1_000))
    assert (reply.receipt.cost_usd, house.only(RequestEnded).cost_source) == (0.0, "")
    assert 24 * units.price.hourly_usd == pytest.approx(1_016.64)


def test_a_retry_is_not_billed_twice(tmp_path: Path) -> None:
    """A call that failed before its first token costs nothing; the one that answered is paid once, and the decision log
    says at what prices: 1,000 input at 0.80 = 0.0008; 250 output at 4.00 = 0.0010."""
    house = House(deployments=(deployed(HAIKU), replace(deployed(HAIKU), name="e", group="e")))
    usage = Usage(1_000, 250)
    cut = [Unreachable("cut")]

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        if cut:
            raise cut.pop()
        async for delta in answering(usage)(attempt):
            yield delta

    house.backend.scripts = {"d": script, "e": script}
    log = DecisionLog(tmp_path)

    async def scene() -> None:
        reply = await house.ask(input_tokens=1_000)
        assert reply.receipt.cost_usd == pytest.approx(0.0018)

    virtually(scene)
    for event in house.events:
        if (handler := log.handlers().get(type(event))) is not None:
            handler(event)
    log.close()
    assert [e.outcome.cost_usd for e in house.of(AttemptEnded)] == [0.0, pytest.approx(0.0018)]
    (logged,) = [one for one in read_decisions(log_files(tmp_path)) if one.outcome is not None]
    assert logged.outcome is not None
    assert logged.outcome.cost_usd == pytest.approx(0.0018)
    assert logged.outcome.cost_source == AWS


def test_what_was_served_otherwise_is_counted() -> None:
    """By deployment, what was asked for and what was given; the series is there before the first such call."""
    llama = deployed(LLAMA, aws="{latency: optimized}")
    house, _ = played(llama, Usage(10, 10), served_as="standard")
    registry = CollectorRegistry()
    metrics = Metrics(Policy("p", (RequestClass("all"),), (llama,)), registry)
    sink, labels = Sink(metrics.subscribers), {"deployment": "d", "asked": "optimized", "served": "standard"}
    assert registry.get_sample_value("router_served_otherwise_total", labels) == 0.0
    sink.emit(house.only(AttemptEnded))
    sink.drain_all()
    assert registry.get_sample_value("router_served_otherwise_total", labels) == 1.0
