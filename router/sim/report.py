"""What came of it? The report of a simulation, as a plain dict with the same bytes for the same run.

`offered = completed + shed + expired + failed`; shares are of what was offered unless they say otherwise. Latencies
count from arrival at the router and are those of completed requests. Reserved capacity is paid by the hour whether
used or not, and an answer of a batch job also where nobody waits for it any more: that is in the cost of the whole and
of its deployment, and in no class's. `decision_us` and `wall_s` are measured, not simulated: only they differ from run
to run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import floor
from types import MappingProxyType

from msgspec import Struct

from router.domain.deployment import Deployment

_DIGITS = 6
_QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


class Ended(StrEnum):
    """What became of a request. Shed: rejected or evicted, answered at once with a reason."""

    COMPLETED = "completed"
    SHED = "shed"
    EXPIRED = "expired"
    FAILED = "failed"


class Served(Struct, frozen=True):
    """One request, over. `cost_usd` is that of all its attempts; `adequate` is `None` where no truth is known."""

    request_id: str
    request_class: str
    ended: Ended
    deployment: str | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    slo_met: bool = False
    adequate: bool | None = None
    cost_usd: float = 0.0
    attempts: int = 0


class Sample(Struct, frozen=True):
    """How a deployment stood at an instant; `limit` is `None` where none is set."""

    at_s: float
    deployment: str
    in_flight: int
    limit: float | None


class Measured(Struct, frozen=True):
    """What a run took in reality: seconds of each decision and of the whole."""

    decide_s: Sequence[float] = ()
    wall_s: float = 0.0


class Aside(Struct, frozen=True):
    """What no request tells, by deployment: how long each batch endpoint had a batch, and what was paid for answers of
    jobs that came too late."""

    busy_s: Mapping[str, float] = MappingProxyType({})
    unused_usd: Mapping[str, float] = MappingProxyType({})


def report(
    served: Sequence[Served],
    deployments: Sequence[Deployment],
    samples: Iterable[Sample] = (),
    *,
    lasted_s: float,
    measured: Measured | None = None,
    aside: Aside | None = None,
) -> dict[str, object]:
    """The report of one run that lasted `lasted_s` simulated seconds until it had drained."""
    aside = aside or Aside()
    besides = {str(d.name): d.price.hourly_usd * lasted_s / 3600 for d in deployments}
    for name, usd in aside.unused_usd.items():
        besides[name] += usd
    busy = {name: _share(s, lasted_s) for name, s in aside.busy_s.items()}
    classes: defaultdict[str, list[Served]] = defaultdict(list)
    for one in served:
        classes[one.request_class].append(one)
    measured = measured or Measured()
    decide_us = sorted(s * 1e6 for s in measured.decide_s)
    return {
        "overall": totals(served, besides_usd=sum(besides.values())),
        "by_class": {name: totals(classes[name]) for name in sorted(classes)},
        "by_deployment": _by_deployment(served, besides, samples, busy),
        "decision_us": {name: quantile(decide_us, q) for name, q in _QUANTILES if name != "p95"},
        "wall_s": _round(measured.wall_s),
    }


def totals(served: Sequence[Served], *, besides_usd: float = 0.0) -> dict[str, object]:
    """The figures of one group of requests; a share of nothing is `None`."""
    ends = Counter(one.ended for one in served)
    done = [one for one in served if one.ended is Ended.COMPLETED]
    judged = [one for one in done if one.adequate is not None]
    useful = sum(bool(one.slo_met and one.adequate) for one in judged)
    cost = sum(one.cost_usd for one in served) + besides_usd
    return {
        "offered": len(served),
        **{end.value: ends[end] for end in Ended},
        "slo_met": _share(sum(one.slo_met for one in served), len(served)),
        "adequate_of_served": _share(sum(bool(one.adequate) for one in judged), len(judged)),
        "useful": _share(useful, len(served)) if judged or not done else None,
        "cost_usd": _round(cost),
        "cost_per_1k_usd": _share(cost * 1000, len(served)),
        "ttft_s": _quantiles(one.ttft_s for one in done),
        "tpot_s": _quantiles(one.tpot_s for one in done),
        "e2e_s": _quantiles(one.e2e_s for one in done),
    }


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """By linear interpolation between the two nearest of ascending values; `None` of nothing."""
    if not ordered:
        return None
    place = q * (len(ordered) - 1)
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return _round(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def _by_deployment(
    served: Sequence[Served], besides: dict[str, float], samples: Iterable[Sample], busy: dict[str, float | None]
) -> dict[str, object]:
    routed = [one for one in served if one.deployment is not None]
    counts = Counter(one.deployment for one in routed)
    costs: defaultdict[str | None, float] = defaultdict(float)
    for one in routed:
        costs[one.deployment] += one.cost_usd
    series: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        series[sample.deployment].append(sample)
    return {
        name: {
            "share": _share(counts[name], len(routed)),
            "cost_usd": _round(costs[name] + usd),
            **({"busy_ratio": busy[name]} if name in busy else {}),
            "over_time": {
                "at_s": [_round(s.at_s) for s in series[name]],
                "in_flight": [s.in_flight for s in series[name]],
                "limit": [None if s.limit is None else _round(s.limit) for s in series[name]],
            },
        }
        for name, usd in besides.items()
    }


def _quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    ordered = sorted(value for value in values if value is not None)
    return {name: quantile(ordered, q) for name, q in _QUANTILES}


def _share(part: float, whole: float) -> float | None:
    return _round(part / whole) if whole else None


def _round(value: float) -> float:
    return round(value, _DIGITS)
