"""What is said of a scenario: the measures of each phase, of the whole, and the series that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from router.domain.deployment import Tier
from router.domain.slo import FloorUnderOverload, QualityFloor
from router.sim.scenarios.course import WINDOW_S, Course
from router.sim.scenarios.fixed import FixedSetting
from router.sim.scenarios.measures import (
    breaches,
    flips,
    is_below,
    limit_overshoot_ratio,
    overshoot_ratio,
    per_minute,
    regret,
    settling_s,
    violation_s,
)
from router.sim.scenarios.staging import Stage

LIMIT_BAND = 0.10
"""A limit that turns back by less is not said to have turned."""
SHARE_BAND = 0.30
"""The same of the share that a tier gets: wide enough for the chance in thirty seconds of requests."""
_ANSWERED_LATER = 2
"""Windows at the end of a phase that do not unsettle it: most of their answers end under the next phase's change."""
_DIGITS = 6


class Stand(Struct, frozen=True):
    """How a deployment stood over time: calls in flight, and its limit where one is told."""

    at_s: tuple[float, ...]
    in_flight: tuple[int, ...]
    limit: tuple[float | None, ...]

    def between(self, begin_s: float, end_s: float) -> list[float | None]:
        """The limit over a stretch."""
        pairs = zip(self.at_s, self.limit, strict=True)
        return [limit for at_s, limit in pairs if begin_s <= at_s < end_s]


class Figures(Struct, frozen=True):
    """Of one phase, or of all. Useful shares are of the watched requests; `regret` is in useful answers, and
    `regret_ratio` a part of the best's. `settled_s` is `None` for what never settled, and of the whole the longest;
    while a floor that must hold is broken, nothing is settled. Overshoot is that of the worst latency over its
    objective. Flips are those of limits and of the large tier's share. A breach is a stretch of windows in which the
    share adequate is surely under the floor."""

    offered: int
    useful: float | None
    best_useful: float | None
    settled_s: float | None
    overshoot_ratio: float
    limit_overshoot_ratio: float
    violation_s: float
    flips_per_min: float
    floor_breaches: int
    floor_breach_s: float
    regret: float
    regret_ratio: float | None


class PhaseFigures(Struct, frozen=True):
    """A phase, what it began with, and the best fixed setting of it in hindsight."""

    change: str
    at_s: float
    until_s: float
    figures: Figures
    best_setting: FixedSetting


def floor_of(stage: Stage) -> QualityFloor | None:
    """The highest floor that any class promises."""
    floors = [c.floor for c in stage.policies[0].classes if c.floor is not None]
    return max(floors, key=lambda floor: floor.ratio, default=None)


def floor_holds(floor: QualityFloor | None) -> bool:
    """Whether the floor is kept under overload."""
    return floor is not None and floor.under_overload is FloorUnderOverload.SHED


def assess(
    stage: Stage, ours: Course, best: Course, stands: Mapping[str, Stand], settings: Sequence[FixedSetting]
) -> tuple[PhaseFigures, ...]:
    """Phase by phase."""
    return tuple(
        PhaseFigures(
            change=phase.change,
            at_s=stage.scenario.begins_s[number],
            until_s=stage.scenario.begins_s[number + 1],
            figures=_figures(stage, ours, best, stands, number),
            best_setting=settings[number],
        )
        for number, phase in enumerate(stage.scenario.phases)
    )


def _figures(stage: Stage, ours: Course, best: Course, stands: Mapping[str, Stand], phase: int) -> Figures:
    inside = [n for n, other in enumerate(ours.phases) if other == phase]
    begin_s, end_s = stage.scenario.begins_s[phase], stage.scenario.begins_s[phase + 1]
    latencies = [[series[n] for n in inside] for series in ours.latency.values()]
    ones = [1.0] * len(inside)
    limits = [stand.between(begin_s, end_s) for stand in stands.values()]
    mine, theirs = ours.useful_ratio(), best.useful_ratio()
    below = _below(stage, ours, inside)
    is_last = phase + 1 == len(stage.scenario.phases)
    judged = inside if is_last else inside[: max(len(inside) - _ANSWERED_LATER, 1)]
    broken_floor = below if floor_holds(floor_of(stage)) else [False] * len(below)
    useful, best_useful = (sum(c.useful[n] for n in inside) for c in (ours, best))
    watched = sum(ours.watched[n] for n in inside)
    return Figures(
        offered=sum(ours.offered[n] for n in inside),
        useful=_ratio(useful, watched),
        best_useful=_ratio(best_useful, watched),
        settled_s=settling_s(
            [ours.ends_s[n] for n in judged],
            [0.0 if broken else mine[n] for n, broken in zip(judged, broken_floor, strict=False)],
            [theirs[n] for n in judged],
            changed_s=begin_s,
        ),
        overshoot_ratio=_rounded(max((overshoot_ratio(series, ones) for series in latencies), default=0.0)),
        limit_overshoot_ratio=_rounded(max((limit_overshoot_ratio(series) for series in limits), default=0.0)),
        violation_s=violation_s([_worst(each) for each in zip(*latencies, strict=True)], ones, WINDOW_S),
        flips_per_min=_rounded(per_minute(_turns(stage, ours, inside, limits), end_s - begin_s)),
        floor_breaches=breaches(below),
        floor_breach_s=sum(below) * WINDOW_S,
        regret=regret([ours.useful[n] for n in inside], [best.useful[n] for n in inside]),
        regret_ratio=_ratio(best_useful - useful, best_useful),
    )


def _worst(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _turns(stage: Stage, ours: Course, inside: Sequence[int], limits: Sequence[Sequence[float | None]]) -> int:
    large = {str(name) for d in stage.fleet.deployments if d.tier is Tier.LARGE for name in d.names()}
    shares = [ours.share(name) for name in sorted(large)]
    smoothed = [[series[n] for n in inside] for series in shares]
    return sum(flips(series, LIMIT_BAND) for series in limits) + sum(flips(series, SHARE_BAND) for series in smoothed)


def _below(stage: Stage, ours: Course, inside: Sequence[int]) -> list[bool]:
    floor = floor_of(stage)
    if floor is None:
        return [False] * len(inside)
    adequate, served = ours.summed(ours.adequate), ours.summed(ours.served)
    return [is_below(adequate[n], served[n], floor.ratio) for n in inside]


def whole(phases: Sequence[PhaseFigures], ours: Course, best: Course) -> Figures:
    """All phases together: sums and extremes; `settled_s` is that of the slowest."""
    each = [phase.figures for phase in phases]
    settled = [one.settled_s for one in each]
    watched, lasted = sum(ours.watched), phases[-1].until_s
    turns = sum(one.flips_per_min * (phase.until_s - phase.at_s) for one, phase in zip(each, phases, strict=True))
    return Figures(
        offered=sum(ours.offered),
        useful=_ratio(sum(ours.useful), watched),
        best_useful=_ratio(sum(best.useful), watched),
        settled_s=None if None in settled else max(s for s in settled if s is not None),
        overshoot_ratio=max(one.overshoot_ratio for one in each),
        limit_overshoot_ratio=max(one.limit_overshoot_ratio for one in each),
        violation_s=sum(one.violation_s for one in each),
        flips_per_min=_rounded(turns / lasted),
        floor_breaches=sum(one.floor_breaches for one in each),
        floor_breach_s=sum(one.floor_breach_s for one in each),
        regret=sum(one.regret for one in each),
        regret_ratio=_ratio(sum(best.useful) - sum(ours.useful), sum(best.useful)),
    )


def _ratio(part: float, of: float) -> float | None:
    return _rounded(part / of) if of else None


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
