"""How much the double admits at once and in a minute, through the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from router.doubles.aws.models import (
    Prices,
    Quota,
    words,
)
from router.doubles.aws.server import AwsDouble
from router.doubles.aws.world import Provisioned
from tests.integration.aws_far_side import client, turn
from tests.integration.double_runtime import SONNET, Clock, events, has, refused, standing

PT = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"


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


async def at_once(double: AwsDouble, sdk: Any, config: dict[str, Any], offered: int) -> tuple[int, set[str]]:
    """How many of the offered calls are admitted while none of them ends, and what refuses the others."""
    hold = asyncio.Event()

    async def held(_: float) -> None:
        await hold.wait()

    double.world.sleep = held
    long = turn("word " * 500)
    calls = [asyncio.create_task(sdk.converse(modelId=SONNET, messages=long, **config)) for _ in range(offered)]
    while len(double.world.calls) < offered:
        await asyncio.sleep(0)
    hold.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    codes = {end.response["Error"]["Code"] for end in ends if isinstance(end, ClientError)}
    return sum(isinstance(end, dict) for end in ends), codes


@pytest.mark.parametrize(("max_tokens", "admitted"), [(None, 3), (64_000, 3), (1_000, 133)])
async def test_reservation_bounds_concurrency(
    double: AwsDouble, sdk: Any, max_tokens: int | None, admitted: int
) -> None:
    """A tenth of AWS's own example, over the wire: with 200,000 tokens a minute and 500 of input, 3 calls are
    admitted at once where `maxTokens` is left to the model's 64,000, and 133 with 1,000."""
    has(double, quota=Quota(tokens_per_min=2e5), max_tokens=64_000)
    config = {} if max_tokens is None else {"inferenceConfig": {"maxTokens": max_tokens}}
    assert await at_once(double, sdk, config, admitted + 10) == (admitted, {"ThrottlingException"})


async def test_settlement(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """At the end all but input and five times the output is given back, and the bucket fills over the minute."""
    has(double, quota=Quota(tokens_per_min=1000, output_burndown=5.0), says=words(20), max_tokens=870)
    for _ in range(2):
        await sdk.converse(modelId=SONNET, messages=turn("word " * 10))
    assert (await refused(sdk.converse(modelId=SONNET, messages=turn("word " * 10))))[:2] == (
        429,
        "ThrottlingException",
    )
    clock.time += 30.0
    await sdk.converse(modelId=SONNET, messages=turn("word " * 10))


async def test_requests_per_minute_of_an_account_and_region(double: AwsDouble, sdk: Any) -> None:
    """Requests are counted for each model, region and account; tiers and operations share the count."""
    has(double, quota=Quota(requests_per_min=2))
    await sdk.converse(modelId=SONNET, messages=turn(), serviceTier={"type": "flex"})
    await events(await sdk.converse_stream(modelId=SONNET, messages=turn()))
    assert (await refused(sdk.converse(modelId=SONNET, messages=turn())))[1] == "ThrottlingException"
    await sdk.converse(modelId=f"us.{SONNET}", messages=turn())
    async with client(double.url, region="eu-west-1") as elsewhere:
        await elsewhere.converse(modelId=SONNET, messages=turn())
    double.world.keys["other"] = "210987654321"
    async with client(double.url, key="other") as somebody:
        await somebody.converse(modelId=SONNET, messages=turn())
    assert [bill.account for bill in double.world.bills][-1] == "210987654321"


async def test_provisioned(double: AwsDouble, sdk: Any) -> None:
    """Reserved throughput answers while in service or updated, within its units, and bills nothing by the call."""
    has(double, prices=Prices(3.0, 15.0), max_tokens=50)
    held = double.world.provisioned[PT] = Provisioned(PT, "pt", SONNET, 2, "Updating", unit_tokens_per_min=60.0)
    await sdk.converse(modelId=PT, messages=turn())
    assert (double.world.bills[-1].usd, double.world.bills[-1].tier) == (0.0, "provisioned")
    for _ in range(7):
        await sdk.converse(modelId=PT, messages=turn())
    assert (await refused(sdk.converse(modelId=PT, messages=turn())))[1] == "ThrottlingException"
    held.status = "Creating"
    assert (await refused(sdk.converse(modelId=PT, messages=turn())))[1] == "ValidationException"
    gone = sdk.converse(modelId=PT[:-1] + "9", messages=turn())
    assert (await refused(gone))[:2] == (404, "ResourceNotFoundException")
