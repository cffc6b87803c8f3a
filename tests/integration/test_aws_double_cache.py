"""Prompt caching of the double, through the real SDK: written, read, priced and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.doubles.aws.models import (
    Prices,
    Quota,
    Speed,
)
from router.doubles.aws.server import AwsDouble
from tests.integration.aws_far_side import client, turn
from tests.integration.double_runtime import SONNET, Clock, has, standing


def cached(prefix: int, rest: int, ttl: dict[str, str]) -> dict[str, Any]:
    point = {"cachePoint": {"type": "default", **ttl}}
    return {"system": [{"text": "rule " * prefix}, point], "messages": turn("word " * rest)}


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


async def test_prompt_cache(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A prefix is written, then read while it is kept: cheaper, and the first token comes sooner."""
    speed = Speed(first_token_s=0.1, input_token_s=0.001)
    has(double, speed=speed, prices=Prices(3.0, 15.0), cache_min_tokens=1000)
    prompt = cached(1000, 10, {})
    first = await sdk.converse(modelId=SONNET, **prompt)
    assert first["usage"] == {
        "inputTokens": 10,
        "outputTokens": 8,
        "totalTokens": 1018,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 1000,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 1000}],
    }
    second = await sdk.converse(modelId=SONNET, **prompt)
    assert (second["usage"]["cacheReadInputTokens"], second["usage"]["cacheWriteInputTokens"]) == (1000, 0)
    assert (first["metrics"]["latencyMs"], second["metrics"]["latencyMs"]) == (1110, 110)
    assert [bill.usd for bill in double.world.bills] == pytest.approx(
        [(10 * 3 + 1000 * 3.75 + 8 * 15) * 1e-6, (10 * 3 + 1000 * 0.3 + 8 * 15) * 1e-6]
    )
    clock.time += 301.0
    third = await sdk.converse(modelId=SONNET, **prompt)
    assert third["usage"]["cacheWriteInputTokens"] == 1000


async def test_cache_for_an_hour(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A prefix kept for an hour costs twice the input's price, and is there after ten minutes."""
    has(double, prices=Prices(3.0, 0.0), cache_min_tokens=10)
    await sdk.converse(modelId=SONNET, **cached(100, 1, {"ttl": "1h"}))
    assert double.world.bills[-1].usd == pytest.approx((3.0 + 100 * 6.0) * 1e-6)
    clock.time += 600.0
    answer = await sdk.converse(modelId=SONNET, **cached(100, 1, {"ttl": "1h"}))
    assert answer["usage"]["cacheReadInputTokens"] == 100


async def test_short_and_changed_prefixes(double: AwsDouble, sdk: Any) -> None:
    """A prefix under the least length is not cached; one that changed in a word is not read."""
    has(double, cache_min_tokens=1000)
    answer = await sdk.converse(modelId=SONNET, **cached(999, 1, {}))
    assert "cacheWriteInputTokens" not in answer["usage"]
    await sdk.converse(modelId=SONNET, **cached(1000, 1, {}))
    changed = cached(1000, 1, {})
    changed["system"][0]["text"] = "Rule" + changed["system"][0]["text"][4:]
    assert (await sdk.converse(modelId=SONNET, **changed))["usage"]["cacheReadInputTokens"] == 0


async def test_cache_spares_the_quota(double: AwsDouble, sdk: Any) -> None:
    """Tokens read from the cache are reserved but not spent."""
    has(double, quota=Quota(tokens_per_min=2200), max_tokens=100, cache_min_tokens=10)
    prompt = cached(1000, 0, {}) | {"messages": turn("Hi")}
    await sdk.converse(modelId=SONNET, **prompt)
    for _ in range(6):
        await sdk.converse(modelId=SONNET, **prompt)
