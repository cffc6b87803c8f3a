"""How fast the double serves a call and what it bills for it: tiers, optimised latency, cold starts, broken streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from botocore.exceptions import EventStreamError

from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import (
    Lane,
    Optimized,
    Prices,
    Quota,
    Speed,
)
from router.doubles.aws.server import AwsDouble
from tests.integration.aws_far_side import client, turn
from tests.integration.double_families import BODIES
from tests.integration.double_runtime import SONNET, Clock, events, has, refused, standing


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


async def test_service_tiers(double: AwsDouble, sdk: Any) -> None:
    """Priority is faster and dearer, flex slower and cheaper, and the answer says what was served."""
    has(double, speed=Speed(first_token_s=1.0), prices=Prices(1.0, 1.0))
    served = {}
    for tier in ("priority", "default", "flex"):
        answer = await sdk.converse(modelId=SONNET, messages=turn(), serviceTier={"type": tier})
        served[answer["serviceTier"]["type"]] = (answer["metrics"]["latencyMs"], double.world.bills[-1].usd)
    assert served["priority"][0] < served["default"][0] < served["flex"][0]
    assert served["priority"][1] > served["default"][1] > served["flex"][1]
    assert [bill.tier for bill in double.world.bills] == ["priority", "default", "flex"]
    body = msgspec.json.encode(BODIES["anthropic"][1])
    assert (await sdk.invoke_model(modelId=SONNET, body=body, serviceTier="flex"))["serviceTier"] == "flex"


async def test_latency_optimised(double: AwsDouble, sdk: Any) -> None:
    """Optimised calls are faster; beyond their own quota they are served, and billed, as standard without an error."""
    optimized = Optimized(Lane(0.5, 2.0), Quota(requests_per_min=1))
    has(double, speed=Speed(first_token_s=1.0), prices=Prices(1.0, 1.0), optimized=optimized)
    got = [
        await sdk.converse(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
        for _ in range(2)
    ]
    assert [answer["performanceConfig"]["latency"] for answer in got] == ["optimized", "standard"]
    assert [answer["metrics"]["latencyMs"] for answer in got] == [500, 1000]
    assert double.world.bills[0].usd == pytest.approx(2 * double.world.bills[1].usd)
    streamed = await events(
        await sdk.converse_stream(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
    )
    assert streamed[-1]["metadata"]["performanceConfig"] == {"latency": "standard"}


async def test_latency_not_offered(double: AwsDouble, sdk: Any) -> None:
    """A model that has no optimised latency refuses it."""
    has(double)
    call = sdk.converse(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
    assert (await refused(call))[1] == "ValidationException"


async def test_cold_start(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A model that has not been called for a while is loaded first; a warm one is not."""
    has(double, speed=Speed(first_token_s=0.1, cold_start_s=8.0, warm_s=60.0, output_token_s=0.01))
    waits = []
    for pause in (0.0, 10.0, 61.0):
        clock.time += pause
        waits.append((await sdk.converse(modelId=SONNET, messages=turn()))["metrics"]["latencyMs"])
    assert waits == [8170, 170, 8170]


async def test_bills_add_up(double: AwsDouble, sdk: Any) -> None:
    """The bills are the tokens of the answers at the model's prices, streams and whole answers alike."""
    has(double, prices=Prices(3.0, 15.0))
    used = [(await sdk.converse(modelId=SONNET, messages=turn("a b c")))["usage"]]
    streamed = await events(await sdk.converse_stream(modelId=SONNET, messages=turn("a b")))
    used.append(streamed[-1]["metadata"]["usage"])
    owed = sum(one["inputTokens"] * 3.0 + one["outputTokens"] * 15.0 for one in used) * 1e-6
    assert sum(bill.usd for bill in double.world.bills) == pytest.approx(owed)
    assert owed == pytest.approx((5 * 3.0 + 16 * 15.0) * 1e-6)


async def test_a_failed_stream_is_billed_for_what_it_gave(double: AwsDouble, sdk: Any) -> None:
    """A stream that ends in an exception has billed its input and the tokens that were given, and freed its quota."""
    has(double, prices=Prices(1.0, 1.0), quota=Quota(tokens_per_min=100), max_tokens=90)
    double.world.faults.append(Fault(How.EXCEPTION, "ModelStreamErrorException", after=3, times=1))
    with pytest.raises(EventStreamError):
        await events(await sdk.converse_stream(modelId=SONNET, messages=turn()))
    assert (double.world.bills[-1].input_tokens, double.world.bills[-1].output_tokens) == (1, 4)
    await sdk.converse(modelId=SONNET, messages=turn())
