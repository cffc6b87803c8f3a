"""What CloudWatch counted for Bedrock, in the namespace AWS/Bedrock by ModelId.

Names, units and dimensions as AWS documents them (Amazon Bedrock user guide, "Monitoring the performance of Amazon
Bedrock"): InvocationLatency and TimeToFirstToken in milliseconds, throttled calls counted apart from invocations. Calls
at a service tier are counted under `model-id+priority` and the like, latency-optimised ones under
`model-id+latency-optimized`. Figures of a minute can come a minute or two late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from router.domain.aws.terms import Latency
from router.domain.control.provisioned import Tally
from router.domain.deployment import Deployment, Lane

NAMESPACE = "AWS/Bedrock"
PERIOD_S = 60
_MOST_QUERIES = 500
"""Of one GetMetricData."""
_SUMS = ("Invocations", "InvocationThrottles", "InputTokenCount", "OutputTokenCount")
_MEANS = ("InvocationLatency", "TimeToFirstToken")
_HIGHS = ("EstimatedTPMQuotaUsage",)
_METRICS = (*((name, "Sum") for name in _SUMS), *((n, "Average") for n in _MEANS), *((n, "Maximum") for n in _HIGHS))


class Counted(Struct, frozen=True):
    """What CloudWatch counted for one model id."""

    tally: Tally
    quota_tokens_per_min: float | None


def model_id(deployment: Deployment) -> str:
    """Under which ModelId its calls are counted."""
    address = deployment.address
    if deployment.lane in (Lane.PRIORITY, Lane.FLEX):
        return f"{address.target}+{deployment.lane.value}"
    if address.aws is not None and address.aws.latency is Latency.OPTIMIZED:
        return f"{address.target}+latency-optimized"
    return address.target


async def read_counts(client: Any, ids: Sequence[str], *, begin: float, end: float) -> dict[str, Counted]:
    """By model id, over whole minutes from wall time `begin` to `end`; an id that nobody called has none of it."""
    queries = list(_queries(ids))
    values: dict[str, float | None] = {}
    for start in range(0, len(queries), _MOST_QUERIES):
        some = queries[start : start + _MOST_QUERIES]
        found = await _answers(client, some, _time(begin), _time(end))
        values |= {query["Id"]: _joined(query, found) for query in some}
    return {one: _counted(n, values) for n, one in enumerate(ids)}


async def _answers(client: Any, queries: Sequence[Any], begin: datetime, end: datetime) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    more: dict[str, Any] = {}
    while True:
        page = await client.get_metric_data(MetricDataQueries=queries, StartTime=begin, EndTime=end, **more)
        for result in page["MetricDataResults"]:
            found.setdefault(result["Id"], []).extend(result["Values"])
        if not page.get("NextToken"):
            return found
        more = {"NextToken": page["NextToken"]}


def _queries(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Averages come with the number they are averages of, so that minutes can be joined."""
    for n, one in enumerate(ids):
        for m, (name, statistic) in enumerate(_METRICS):
            yield _query(f"m{n}_{m}", name, statistic, one)
            if statistic == "Average":
                yield _query(f"n{n}_{m}", name, "SampleCount", one)


def _query(query_id: str, name: str, statistic: str, one: str) -> dict[str, Any]:
    metric = {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": [{"Name": "ModelId", "Value": one}]}
    return {
        "Id": query_id,
        "MetricStat": {"Metric": metric, "Period": PERIOD_S, "Stat": statistic},
        "ReturnData": True,
    }


def _joined(query: Mapping[str, Any], found: Mapping[str, Sequence[float]]) -> float | None:
    """One figure for all minutes."""
    values = found.get(query["Id"], ())
    if not values:
        return None
    match query["MetricStat"]["Stat"]:
        case "Average":
            weights = found.get(f"n{query['Id'][1:]}", ())
            if len(weights) != len(values) or not sum(weights):
                return sum(values) / len(values)
            return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        case "Maximum":
            return max(values)
        case _:
            return sum(values)


def _counted(n: int, values: Mapping[str, float | None]) -> Counted:
    of = {name: values[f"m{n}_{m}"] for m, (name, _) in enumerate(_METRICS)}
    tally = Tally(*(of[name] or 0.0 for name in _SUMS), *(_from_ms(of[name]) for name in _MEANS))
    return Counted(tally, of["EstimatedTPMQuotaUsage"])


def _from_ms(value: float | None) -> float | None:
    return None if value is None else value / 1e3


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
