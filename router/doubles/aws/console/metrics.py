"""What Bedrock tells CloudWatch of the calls: the namespace AWS/Bedrock, by ModelId.

A served call gives Invocations, InvocationLatency (to its last token), the counts of its tokens, TimeToFirstToken where
it was a stream, and EstimatedTPMQuotaUsage. A throttled call gives InvocationThrottles and nothing else. Service tiers
other than the default, and optimised latency, are told apart by a suffix of the ModelId. Source: AWS, "Monitoring the
performance of Amazon Bedrock".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp
from msgspec import Struct

from router.doubles.aws.models import Bill
from router.doubles.aws.world import World

_CALLS = frozenset({"Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"})
_MOST = 500
"""Data in one request."""
_SCOPE = "AWS4-HMAC-SHA256 Credential=double/20260101/{}/monitoring/aws4_request, SignedHeaders=host, Signature=0"


class _Datum(Struct, frozen=True):
    region: str
    model_id: str
    name: str
    value: float
    at: float


@asynccontextmanager
async def published(world: World, url: str) -> AsyncIterator[None]:
    """Tell CloudWatch at `url` every `world.metrics_s` seconds of what was called since."""
    async with aiohttp.ClientSession() as http:
        task = asyncio.create_task(_publish(world, url, http))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _publish(world: World, url: str, http: aiohttp.ClientSession) -> None:
    told = world.at()
    while True:
        await asyncio.sleep(world.metrics_s)
        now = world.at()
        by_region: dict[str, list[_Datum]] = {}
        for datum in _data(world, told, now):
            by_region.setdefault(datum.region, []).append(datum)
        told = now
        for region, data in by_region.items():
            for first in range(0, len(data), _MOST):
                form = _form(data[first : first + _MOST])
                async with http.post(url, data=form, headers={"Authorization": _SCOPE.format(region)}):
                    pass


def _data(world: World, since: float, until: float) -> Iterator[_Datum]:
    """What came from `since` on, before `until`."""
    for bill in world.bills:
        if since <= bill.at < until and bill.operation in _CALLS:
            for name, value in _figures(bill).items():
                yield _Datum(bill.region, _model_id(bill), name, value, bill.at)
    for one in world.refusals:
        if since <= one.at < until and one.code == "ThrottlingException" and one.model_id and one.region:
            yield _Datum(one.region, one.model_id, "InvocationThrottles", 1.0, one.at)


def _model_id(bill: Bill) -> str:
    if bill.latency == "optimized":
        return f"{bill.model_id}+latency-optimized"
    return bill.model_id if bill.tier in {"default", "provisioned"} else f"{bill.model_id}+{bill.tier}"


def _figures(bill: Bill) -> dict[str, float]:
    figures = {
        "Invocations": 1.0,
        "InvocationLatency": float(bill.latency_ms),
        "InputTokenCount": float(bill.input_tokens),
        "OutputTokenCount": float(bill.output_tokens),
        "CacheReadInputTokens": float(bill.cache_read_tokens),
        "CacheWriteInputTokens": float(bill.cache_write_tokens),
        "EstimatedTPMQuotaUsage": bill.quota_tokens,
    }
    return figures if bill.first_token_ms is None else figures | {"TimeToFirstToken": float(bill.first_token_ms)}


def _form(data: list[_Datum]) -> dict[str, str]:
    """PutMetricData as CloudWatch's query protocol spells it."""
    form = {"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": "AWS/Bedrock"}
    for index, datum in enumerate(data, 1):
        head = f"MetricData.member.{index}"
        form |= {
            f"{head}.MetricName": datum.name,
            f"{head}.Value": repr(datum.value),
            f"{head}.Timestamp": datetime.fromtimestamp(datum.at, UTC).isoformat(),
            f"{head}.Dimensions.member.1.Name": "ModelId",
            f"{head}.Dimensions.member.1.Value": datum.model_id,
        }
    return form
