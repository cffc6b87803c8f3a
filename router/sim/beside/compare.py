"""Is a new policy better than the old? Two sets of runs over the same arrivals, side by side.

Each figure has two intervals of 95 %. `over_seeds`: Student's t over the paired differences of runs with the same seed
(exploration, feedback, others' load, refusals); it needs two seeds, and is of no width where no seed made a
difference. `over_time`: a moving-block bootstrap over arrival times, which says how far another stretch like this one
could have come out otherwise; it needs one seed. A difference is clear when no interval holds 0. A change that is
taken up in the middle of a run is compared in the same way: a run is whatever `router.sim.run.play` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from msgspec import Struct
from scipy.special import stdtrit

from router.sim.beside.resample import Blocks, Floats, Indexes, TimeBlocks
from router.sim.report import Ended, Served, quantile
from router.sim.run import Played

_TAIL = 0.975
_QUANTILE = 0.95
_PER = 1000.0

Interval = tuple[float, float]
Term = Callable[[Served], float]


class Metric(Struct, frozen=True):
    """A ratio of two sums over requests, or (with `of`) a quantile of a latency. `gain` is +1 where more is better."""

    name: str
    gain: int
    part: Term | None = None
    whole: Term | None = None
    of: Callable[[Served], float | None] | None = None


def _offered(_: Served) -> float:
    return 1.0


def _judged(one: Served) -> float:
    return float(one.ended is Ended.COMPLETED and one.adequate is not None)


def _done(one: Served, value: float | None) -> float | None:
    return value if one.ended is Ended.COMPLETED else None


METRICS = (
    Metric("useful", 1, lambda s: float(bool(_judged(s) and s.slo_met and s.adequate)), _offered),
    Metric("slo_met", 1, lambda s: float(s.slo_met), _offered),
    Metric("adequate_of_served", 1, lambda s: float(bool(_judged(s) and s.adequate)), _judged),
    Metric("shed", -1, lambda s: float(s.ended is Ended.SHED), _offered),
    Metric("cost_per_1k_usd", -1, lambda s: s.cost_usd * _PER, _offered),
    Metric("ttft_p95_s", -1, of=lambda s: _done(s, s.ttft_s)),
    Metric("tpot_p95_s", -1, of=lambda s: _done(s, s.tpot_s)),
)
"""Shares are of what was offered, but for `adequate_of_served`."""


class Difference(Struct, frozen=True):
    """One figure under both policies: means over seeds, and how sure their difference is. `None` where there is
    nothing to tell it by. `clear`: better, worse, or empty."""

    old: float | None
    new: float | None
    difference: float | None = None
    over_seeds: Interval | None = None
    over_time: Interval | None = None
    clear: str = ""


class Group(Struct, frozen=True):
    """All requests, or those of one class; `offered` (old, new) differ where the policies class them otherwise."""

    offered: tuple[int, int]
    figures: dict[str, Difference]


class Comparison(Struct, frozen=True):
    """Both policies over the same arrivals."""

    seeds: int
    blocks: Blocks
    overall: Group
    by_class: dict[str, Group]


def compare(arrivals_s: Sequence[float], old: Sequence[Played], new: Sequence[Played]) -> Comparison:
    """Runs of the old and the new policy, seed by seed in the same order, over the arrivals at `arrivals_s`."""
    blocks = TimeBlocks(arrivals_s)
    sides = tuple(tuple(_Run(one, blocks) for one in side) for side in (old, new))
    names = sorted({name for side in sides for run in side for name in run.classes})
    return Comparison(
        seeds=len(old),
        blocks=blocks.told,
        overall=_group(sides, None),
        by_class={name: _group(sides, name) for name in names},
    )


class _Run:
    """One run, ready to be resampled."""

    def __init__(self, played: Played, blocks: TimeBlocks) -> None:
        self._served, self._blocks = played.served, blocks
        self._fixed_usd = _fixed_usd(played)
        self.classes: dict[str, list[int]] = {}
        for index, one in enumerate(played.served):
            self.classes.setdefault(one.request_class, []).append(index)

    def members(self, name: str | None) -> Sequence[int]:
        """Indexes of the requests of a class, or of all."""
        return range(len(self._served)) if name is None else self.classes.get(name, [])

    def figure(self, metric: Metric, name: str | None) -> tuple[float | None, Floats]:
        """The figure of the run, and of each resample of it."""
        members = self.members(name)
        served = [self._served[i] for i in members]
        places: Indexes = np.asarray([int(one.request_id) for one in served], dtype=np.intp)
        if metric.of is not None:
            return self._quantile(metric.of, served, places)
        assert metric.part is not None
        assert metric.whole is not None
        parts, wholes = (np.array([term(s) for s in served], dtype=np.float64) for term in (metric.part, metric.whole))
        total = float(wholes.sum())
        if total == 0.0 or (metric.name == "useful" and not self._is_judged(served)):
            return None, np.full(len(self._blocks.weights), np.nan)
        fixed = self._fixed_usd * _PER / total if metric.name == "cost_per_1k_usd" and name is None else 0.0
        drawn = self._blocks.sums(wholes, places)
        drawn[drawn == 0.0] = np.nan
        return float(parts.sum()) / total + fixed, self._blocks.sums(parts, places) / drawn + fixed

    def _quantile(
        self, of: Callable[[Served], float | None], served: Sequence[Served], places: Indexes
    ) -> tuple[float | None, Floats]:
        told = [(value, place) for value, place in zip(map(of, served), places, strict=True) if value is not None]
        values = np.array([value for value, _ in told], dtype=np.float64)
        where: Indexes = np.asarray([place for _, place in told], dtype=np.intp)
        return quantile(np.sort(values).tolist(), _QUANTILE), self._blocks.quantiles(values, where, _QUANTILE)

    @staticmethod
    def _is_judged(served: Sequence[Served]) -> bool:
        """Whether truth is known of any answer, or there was none to judge."""
        return any(map(_judged, served)) or not any(s.ended is Ended.COMPLETED for s in served)


def _fixed_usd(played: Played) -> float:
    """All that no request's cost holds: reserved capacity by the hour, answers of jobs that nobody was given."""
    overall = played.report["overall"]
    assert isinstance(overall, Mapping)
    return float(overall["cost_usd"]) - sum(one.cost_usd for one in played.served)


def _group(sides: Sequence[Sequence[_Run]], name: str | None) -> Group:
    old, new = sides
    return Group(
        offered=(len(old[0].members(name)), len(new[0].members(name))),
        figures={metric.name: _difference(old, new, metric, name) for metric in METRICS},
    )


def _difference(old: Sequence[_Run], new: Sequence[_Run], metric: Metric, name: str | None) -> Difference:
    before, after = ([run.figure(metric, name) for run in side] for side in (old, new))
    olds, news = ([figure for figure, _ in side if figure is not None] for side in (before, after))
    mean_old, mean_new = (fmean(figures) if figures else None for figures in (olds, news))
    if len(olds) != len(before) or len(news) != len(after):
        return Difference(mean_old, mean_new)
    differences = [b - a for a, b in zip(olds, news, strict=True)]
    drawn = np.mean([b - a for (_, a), (_, b) in zip(before, after, strict=True)], axis=0)
    seeds, time = over_seeds(differences), _over_time(drawn)
    difference = fmean(differences)
    return Difference(mean_old, mean_new, difference, seeds, time, _verdict(difference * metric.gain, seeds, time))


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of the mean of paired differences; `None` of one."""
    count = len(differences)
    if count < 2:
        return None
    half = float(stdtrit(count - 1, _TAIL)) * stdev(differences) / sqrt(count)
    mean = fmean(differences)
    return mean - half, mean + half


def _over_time(drawn: Floats) -> Interval | None:
    """Percentiles of the resampled differences; `None` where too few resamples held any."""
    known = drawn[~np.isnan(drawn)]
    if len(known) < max(0.5 * len(drawn), 1):
        return None
    low, high = np.quantile(known, (1.0 - _TAIL, _TAIL))
    return float(low), float(high)


def _verdict(gained: float, *intervals: Interval | None) -> str:
    told = [interval for interval in intervals if interval is not None]
    if not told or any(low <= 0.0 <= high for low, high in told):
        return ""
    return "better" if gained > 0.0 else "worse"
