"""A run in windows of arrival: what came, what became of it, where it went, how late it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil

from msgspec import Struct

from router.domain.slo import Indicator, Objectives
from router.sim.report import Ended, Served, quantile
from router.sim.scenarios.fixed import Asked
from router.sim.scenarios.hindsight import is_watched
from router.sim.scenarios.measures import trailing
from router.sim.scenarios.staging import Stage

WINDOW_S = 5.0
SMOOTHED = 6
"""Shares are told over so many windows, from the beginning of the phase on."""
_QUANTILE = 0.95
_DIGITS = 6
_LATENCIES = (Indicator.TTFT, Indicator.TPOT, Indicator.E2E)


class Course(Struct, frozen=True):
    """Counts of each window, by arrival. `useful`, `served`, `adequate` and the latencies are those of the watched
    requests, the rest of all. `latency` holds the 95th percentile of each promised latency over its objective, which
    is that of each request's own class at the time it came; `latency_s` the same in seconds."""

    ends_s: tuple[float, ...]
    phases: tuple[int, ...]
    offered: tuple[int, ...]
    watched: tuple[int, ...]
    useful: tuple[int, ...]
    served: tuple[int, ...]
    adequate: tuple[int, ...]
    refused: tuple[int, ...]
    went: dict[str, tuple[int, ...]]
    latency: dict[str, tuple[float | None, ...]]
    latency_s: dict[str, tuple[float | None, ...]]

    def useful_ratio(self) -> list[float | None]:
        """Useful of watched, smoothed within each phase."""
        return self._smoothed(self.useful, self.watched)

    def adequate_ratio(self) -> list[float | None]:
        """Adequate of served, smoothed within each phase."""
        return self._smoothed(self.adequate, self.served)

    def summed(self, counts: Sequence[int]) -> list[int]:
        """Counts over the windows that are smoothed over."""
        spans = self._within(counts, lambda inside: [sum(inside[max(n - SMOOTHED, 0) : n]) for n in _ends(inside)])
        return [round(value) for value in spans if value is not None]

    def share(self, name: str) -> list[float | None]:
        """Part of all that a deployment got, smoothed within each phase."""
        return self._smoothed(self.went[name], self.offered)

    def _smoothed(self, parts: Sequence[int], wholes: Sequence[int]) -> list[float | None]:
        found: list[float | None] = []
        for phase in sorted(set(self.phases)):
            inside = [n for n, other in enumerate(self.phases) if other == phase]
            found += trailing([parts[n] for n in inside], [wholes[n] for n in inside], SMOOTHED)
        return [None if value is None else round(value, _DIGITS) for value in found]

    def _within(self, counts: Sequence[int], of: Callable[[Sequence[int]], Sequence[float]]) -> list[float | None]:
        found: list[float | None] = []
        for phase in sorted(set(self.phases)):
            found += of([count for count, other in zip(counts, self.phases, strict=True) if other == phase])
        return found


def _ends(inside: Sequence[int]) -> range:
    return range(1, len(inside) + 1)


def course(stage: Stage, asked: Sequence[Asked], served: Sequence[Served]) -> Course:
    """Both in order of arrival. Windows end where phases end."""
    ends, phases = _windows(stage)
    inside: list[list[int]] = [[] for _ in ends]
    index = 0
    for number, row in enumerate(stage.workload.arrivals):
        while row.at_s >= ends[index] and index + 1 < len(ends):
            index += 1
        inside[index].append(number)
    watched = [[n for n in one if is_watched(stage.workload.arrivals[n])] for one in inside]
    done = [[n for n in one if served[n].ended is Ended.COMPLETED] for one in watched]
    names = [str(name) for group in stage.fleet.deployments for name in group.names()]

    def count(groups: Sequence[Sequence[int]], holds: Callable[[Served], object]) -> tuple[int, ...]:
        return tuple(sum(bool(holds(served[n])) for n in one) for one in groups)

    promised = [i for i in _LATENCIES if any(_threshold(a.request_class.objectives, i) for a in asked)]
    return Course(
        ends_s=tuple(ends),
        phases=tuple(phases),
        offered=tuple(map(len, inside)),
        watched=tuple(map(len, watched)),
        useful=count(watched, lambda s: s.slo_met and s.adequate),
        served=tuple(map(len, done)),
        adequate=count(done, lambda s: s.adequate),
        refused=count(inside, lambda s: s.ended is not Ended.COMPLETED),
        went={name: count(inside, lambda s, name=name: s.deployment == name) for name in names},  # type: ignore[misc]
        latency={i.value: tuple(_over(asked, served, one, i) for one in done) for i in promised},
        latency_s={i.value: tuple(_p95(_told(served[n], i) for n in one) for one in done) for i in promised},
    )


def _windows(stage: Stage) -> tuple[list[float], list[int]]:
    ends: list[float] = []
    phases: list[int] = []
    begins = stage.scenario.begins_s
    for number, (begin_s, end_s) in enumerate(pairwise(begins)):
        steps = max(ceil((end_s - begin_s) / WINDOW_S - 1e-9), 1)
        ends += [min(begin_s + (step + 1) * WINDOW_S, end_s) for step in range(steps)]
        phases += [number] * steps
    return ends, phases


def _told(one: Served, indicator: Indicator) -> float | None:
    return {Indicator.TTFT: one.ttft_s, Indicator.TPOT: one.tpot_s, Indicator.E2E: one.e2e_s}[indicator]


def _threshold(objectives: Objectives, indicator: Indicator) -> float | None:
    return next((o.threshold_s for o in objectives.each() if o.indicator is indicator), None)


def _over(asked: Sequence[Asked], served: Sequence[Served], inside: Sequence[int], of: Indicator) -> float | None:
    limits = ((n, _threshold(asked[n].request_class.objectives, of)) for n in inside)
    return _p95(value / limit for n, limit in limits if limit and (value := _told(served[n], of)) is not None)


def _p95(values: object) -> float | None:
    return quantile(sorted(value for value in values if value is not None), _QUANTILE)  # type: ignore[attr-defined]
