"""Prompts that Bedrock counts before it is called, through the real SDK against the AWS double."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import Api, AwsTerms
from router.domain.errors import (
    Refused,
)
from router.doubles.aws.faults import Fault
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from tests.integration.bedrock_calls import (
    CLAUDE,
    answer,
    attempt,
    failure,
    last_params,
    opened,
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


@pytest.mark.parametrize("api", Api)
async def test_a_count_keeps_prompt_and_answer_in_the_window(
    backend: BedrockBackend, double: AwsDouble, api: Api
) -> None:
    """Where they might not fit, the prompt is counted, and the answer asked for as long as there is room."""
    terms = AwsTerms(api=api, count_tokens=True)
    roomy = attempt(double, terms=terms, body={"max_tokens": 50}, context_tokens=100_000)
    await answer(backend, roomy)
    assert double.world.calls[0].operation != "CountTokens"
    tight = attempt(double, terms=terms, body={"max_tokens": 50}, context_tokens=50)
    await answer(backend, tight)
    counted, called = list(double.world.calls)[-2:]
    assert (counted.operation, counted.params["modelId"]) == ("CountTokens", CLAUDE)
    if api is Api.CONVERSE:
        assert called.params["inferenceConfig"]["maxTokens"] < 50
    else:
        assert msgspec.json.decode(called.params["body"])["max_tokens"] < 50


async def test_a_prompt_that_is_counted_too_long(backend: BedrockBackend, double: AwsDouble) -> None:
    """It is refused without a call, by the code that clients look for."""
    asked = attempt(double, terms=AwsTerms(count_tokens=True), context_tokens=1)
    error = await failure(backend, asked)
    assert (type(error), error.code) == (Refused, "context_length_exceeded")
    assert [call.operation for call in double.world.calls] == ["CountTokens"]


@pytest.mark.parametrize("code", ["ThrottlingException", "ValidationException", "InternalServerException"])
async def test_the_estimate_stands_where_nothing_is_counted(
    backend: BedrockBackend, double: AwsDouble, code: str
) -> None:
    """A throttle of CountTokens is none of the model's."""
    double.world.faults.append(Fault(code=code, operation="CountTokens"))
    asked = attempt(double, terms=AwsTerms(count_tokens=True), body={"max_tokens": 50}, context_tokens=40)
    await answer(backend, asked)
    assert last_params(double)["inferenceConfig"] == {"maxTokens": 50}
