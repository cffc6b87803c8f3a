"""InvokeModel of the double in the spelling of each family, through the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from router.doubles.aws.server import AwsDouble
from tests.integration.aws_far_side import client
from tests.integration.double_families import BODIES, piece, said
from tests.integration.double_runtime import Clock, events, refused, standing


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def double(clock: Clock) -> AsyncIterator[AwsDouble]:
    async with standing(clock) as one:
        yield one


@pytest.fixture
async def sdk(double: AwsDouble) -> AsyncIterator[Any]:
    async with client(double.url) as one:
        yield one


@pytest.mark.parametrize("family", BODIES)
async def test_invoke(double: AwsDouble, sdk: Any, family: str) -> None:
    """Each family's body is read and answered in its own spelling, bounded by its own limit, and billed."""
    model, body = BODIES[family]
    answer = await sdk.invoke_model(modelId=model, body=msgspec.json.encode(body))
    text, stop = said(family, msgspec.json.decode(await answer["body"].read()))
    assert (text, stop.lower()) == ("word0 word1 word2 ", stop.lower())
    assert stop.lower() in {"max_tokens", "length"}
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amzn-bedrock-input-token-count"], headers["x-amzn-bedrock-output-token-count"]) == ("2", "3")
    assert (double.world.bills[-1].input_tokens, double.world.bills[-1].output_tokens) == (2, 3)


@pytest.mark.parametrize("family", BODIES)
async def test_invoke_stream(double: AwsDouble, sdk: Any, family: str) -> None:
    """The chunks of each family carry the whole answer's text, and the last one the metrics of the call."""
    model, body = BODIES[family]
    answer = await sdk.invoke_model_with_response_stream(modelId=model, body=msgspec.json.encode(body))
    chunks = [msgspec.json.decode(event["chunk"]["bytes"]) for event in await events(answer, "body")]
    assert "".join(piece(family, chunk) for chunk in chunks) == "word0 word1 word2 "
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (2, 3)


async def test_bodies_of_another_family(sdk: Any) -> None:
    """A body that is not of the model's family, or no JSON, is refused."""
    for body in (b'{"inputText": "a"}', b"{", b"[]"):
        assert (await refused(sdk.invoke_model(modelId="meta.llama3", body=body)))[:2] == (400, "ValidationException")
