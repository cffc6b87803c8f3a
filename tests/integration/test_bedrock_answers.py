"""What is asked of Bedrock, and what is read back of its answers, through the real SDK against the AWS double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import Api, AwsTerms, Guardrail, Latency
from router.domain.deployment import Lane
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Answer, Model, Optimized, PromptRouter, Quota, ToolUse, words
from router.doubles.aws.models import Guardrail as GuardrailThere
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.wire.openai import assemble
from tests.integration.bedrock_calls import (
    CLAUDE,
    PATIENCE_S,
    answer,
    attempt,
    last_params,
    opened,
    served_as,
    text_of,
)

FAMILIES = (
    CLAUDE,
    "meta.llama3-1-8b-instruct-v1:0",
    "mistral.mistral-7b-instruct-v0:2",
    "amazon.titan-text-express-v1",
    "amazon.nova-lite-v1:0",
    "openai.gpt-oss-20b-1:0",
)


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double(World()) as one:
        yield one
        assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[BedrockBackend]:
    async with opened() as one:
        yield one


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("target", FAMILIES)
async def test_every_family_answers_through_invoke(
    backend: BedrockBackend, double: AwsDouble, target: str, stream: bool
) -> None:
    """InvokeModel and its stream give the text, one finish reason, and the tokens that were billed."""
    double.world.default = Model("default", says=words(6))
    deltas = await answer(backend, attempt(double, target=target, stream=stream, terms=AwsTerms(api=Api.INVOKE)))
    assert text_of(deltas).split() == [f"word{i}" for i in range(6)]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    (usage,) = [delta.usage for delta in deltas if delta.usage]
    (bill,) = double.world.bills
    assert (usage.input_tokens, usage.output_tokens) == (bill.input_tokens, bill.output_tokens)
    operation = "InvokeModelWithResponseStream" if stream else "InvokeModel"
    assert double.world.calls[-1].operation == operation


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("lane", [Lane.PRIORITY, Lane.FLEX, Lane.RESERVED])
async def test_a_lane_is_a_service_tier(
    backend: BedrockBackend, double: AwsDouble, lane: Lane, api: Api, stream: bool
) -> None:
    """It is asked for, served and billed, and what was served is read back."""
    deltas = await answer(backend, attempt(double, stream=stream, terms=AwsTerms(api=api), lane=lane))
    assert served_as(deltas) == {lane.value}
    assert double.world.bills[-1].tier == lane.value


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
async def test_optimised_over_its_quota_is_told_as_standard(
    backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool
) -> None:
    """The first call is served optimised; the second silently is not, and is recorded so."""
    double.world.default = Model("default", optimized=Optimized(quota=Quota(requests_per_min=1)))
    asked = attempt(double, stream=stream, terms=AwsTerms(api=api, latency=Latency.OPTIMIZED))
    assert served_as(await answer(backend, asked)) == {"optimized"}
    assert served_as(await answer(backend, asked)) == {"standard"}
    assert [bill.latency for bill in double.world.bills] == ["optimized", "standard"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
async def test_a_guardrail_stands_before_the_model(
    backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool
) -> None:
    """What it blocks ends as filtered, with the guardrail's words."""
    double.world.guardrails["gr1"] = GuardrailThere(words=("something",), message="No.")
    terms = AwsTerms(api=api, guardrail=Guardrail("gr1", "1"))
    deltas = await answer(backend, attempt(double, stream=stream, terms=terms))
    assert text_of(deltas) == "No."
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["content_filter"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_router_says_whom_it_invoked(backend: BedrockBackend, double: AwsDouble, stream: bool) -> None:
    """The model that answered is told with the answer, so that it can be priced."""
    arn = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/nova:1"
    small, large = (f"arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-{size}-v1:0" for size in ("lite", "pro"))
    double.world.prompt_routers[arn] = PromptRouter((small, large))
    deltas = await answer(backend, attempt(double, target=arn, stream=stream))
    assert {delta.served_model for delta in deltas if delta.served_model} == {small}


async def test_an_inference_profile_of_the_account(backend: BedrockBackend, double: AwsDouble) -> None:
    """Its ARN goes out as the model id; so does one of AWS's across regions."""
    arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"
    double.world.profiles[arn] = CLAUDE
    await answer(backend, attempt(double, target=arn))
    await answer(backend, attempt(double, target=f"us.{CLAUDE}"))
    assert [bill.model_id for bill in double.world.bills] == [arn, f"us.{CLAUDE}"]


async def test_a_call_can_be_found_in_the_invocation_log(backend: BedrockBackend, double: AwsDouble) -> None:
    """It carries the ids of request and attempt."""
    await answer(backend, attempt(double))
    assert last_params(double)["requestMetadata"] == {"request_id": "r1", "attempt_id": "a1"}


@pytest.mark.parametrize(("api", "stream"), [(Api.CONVERSE, True), (Api.CONVERSE, False), (Api.INVOKE, False)])
async def test_tools_go_through(backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool) -> None:
    """A tool call comes back as one, whichever operation carried it."""
    call = ToolUse("t1", "weather", ('{"at":', '"Bern"}'))
    double.world.default = Model("default", says=Answer((), tools=(call,), stop_reason="tool_use"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    deltas = await answer(backend, attempt(double, stream=stream, terms=AwsTerms(api=api), body={"tools": [tool]}))
    (choice,) = msgspec.json.decode(assemble(deltas))
    assert choice["finish_reason"] == "tool_calls"
    function = choice["message"]["tool_calls"][0]["function"]
    assert (function["name"], msgspec.json.decode(function["arguments"])) == ("weather", {"at": "Bern"})


async def test_cancelled_streams_give_their_connections_back(double: AwsDouble) -> None:
    """After 200 streams that were left in the middle, over 50 connections, another call finds one at once."""
    double.world.faults.append(Fault(How.HANG, after=1, times=200))

    async def leave() -> None:
        stream = backend.open(attempt(double))
        async for delta in stream:
            if delta.tokens:
                break
        await stream.aclose()

    async with opened(max_connections=50) as backend:
        for _ in range(4):
            await asyncio.gather(*(leave() for _ in range(50)))
        assert text_of(await answer(backend, attempt(double)))
        for _ in range(200):
            await asyncio.wait_for(double.world.gone.acquire(), PATIENCE_S)
    assert double.world.serving == 0
