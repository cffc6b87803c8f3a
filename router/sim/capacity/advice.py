"""All figures of an advice, out of minutes of demand, prices and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from math import ceil

import numpy as np
from msgspec import Struct

from router.control.newsvendor import Need, best_units, critical_ratio
from router.domain.deployment import Price, TokenQuota
from router.domain.errors import RouterError
from router.sim.capacity.course import Course, Grown, Hours
from router.sim.capacity.days import HOURS, WEEK, Days, Pattern, Weekday, days, possible
from router.sim.capacity.minutes import Minutes
from router.sim.capacity.offers import Commitment, Market, Offer, offers
from router.sim.capacity.proof import Proved, prove, units_drawn
from router.sim.capacity.saved import Saved, saved

_FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


class Terms(Struct, frozen=True):
    """What may be bought at what price. `hourly_usd`: of one unit by commitment; `pattern`: hours that may differ,
    `None` for the finest that the record allows; `blocks`: the most that a day is cut into."""

    unit: TokenQuota
    on_demand: Price
    hourly_usd: Mapping[Commitment, float]
    lot: int = 1
    pattern: Pattern | None = None
    blocks: int = 4


class Point(Struct, frozen=True):
    """A number of units held at all hours, and USD an hour."""

    units: int
    reserved_usd: float
    spilled_usd: float

    @property
    def total_usd(self) -> float:
        """Both."""
        return self.reserved_usd + self.spilled_usd


class Profile(Struct, frozen=True):
    """Units that demand needs in each hour of a kind of day: the median minute, and that of 95 %."""

    days: tuple[Weekday, ...]
    p50: tuple[float, ...]
    p95: tuple[float, ...]


class Advice(Struct, frozen=True):
    """`offers` in order, `chosen` is one of them. `curve` is at `curve_usd` a unit and hour, held at all hours.
    `critical_ratio` by commitment is the price of a unit over what it takes over in full use, and so the utilisation
    from which it pays; `next_use` the use of one more unit, as (units, ratio). `demand_break_even` is the share of the
    demand seen at which the advice costs as much as nothing reserved."""

    pattern: Pattern
    fold: str
    lot: int
    hours: float
    alone_usd: float
    offers: tuple[Proved, ...]
    chosen: int
    held: tuple[Hours, ...]
    curve: tuple[Point, ...]
    curve_usd: float
    critical_ratio: dict[Commitment, float]
    next_use: tuple[tuple[float, float], ...]
    utilisation_ratio: float | None
    demand_break_even: float | None
    p95: Point
    grown: tuple[Grown, ...]
    profiles: tuple[Profile, ...]
    base_units: int
    quantile_units: float

    @property
    def best(self) -> Proved:
        """What is advised."""
        return self.offers[self.chosen]

    @property
    def buys(self) -> bool:
        """Whether anything is advised to be bought."""
        return any(one.units.mean > 0 for one in self.held)


def advise(minutes: Minutes, terms: Terms, zone: tzinfo, *, seed: int = 0) -> Advice:
    """The offer that would have cost least on folds it was not chosen on. Raises `RouterError` where the record cannot
    say what hours are asked for."""
    if not float(minutes.all.usd.sum()) > 0.0:
        raise RouterError("this demand costs nothing on demand: there is nothing to save; give the on-demand price")
    found = days(minutes.first, minutes.count, zone)
    pattern = _pattern(found, terms.pattern)
    table = saved(minutes, found, lot=terms.lot)
    market = Market(table, found, pattern, blocks=terms.blocks)
    proved = prove(market, offers(terms.hourly_usd, pattern), rng=np.random.default_rng(seed))
    chosen = int(np.argmin([one.usd_per_hour.mean for one in proved]))
    best = proved[chosen]
    course = Course(market, best, found, minutes)
    price = _curve_price(best.offer, terms)
    curve = _curve(table, price)
    each = [(term, critical_ratio(minutes.all, usd / 60.0)) for term, usd in terms.hourly_usd.items()]
    return Advice(
        pattern=pattern,
        fold=found.said,
        lot=table.lot,
        hours=table.hours,
        alone_usd=float(table.paid_usd.sum()) / table.hours,
        offers=proved,
        chosen=chosen,
        held=course.told(units_drawn(market, best, rng=np.random.default_rng(seed))),
        curve=curve,
        curve_usd=price,
        critical_ratio={term: ratio for term, ratio in each if ratio is not None},
        next_use=_next_use(minutes.all),
        utilisation_ratio=course.utilisation_ratio(),
        demand_break_even=course.break_even(),
        p95=_p95(minutes, table, price),
        grown=tuple(course.grown(factor) for factor in _FACTORS),
        profiles=_profiles(minutes, found, pattern),
        base_units=int(table.levels[best.held.base]),
        quantile_units=best_units(minutes.all, price / 60.0),
    )


def _pattern(found: Days, asked: Pattern | None) -> Pattern:
    finest = possible(found)
    order = tuple(Pattern)
    if asked is not None and order.index(asked) > order.index(finest):
        raise RouterError(
            f"--schedule {asked}: every hour of every kind of day must have been seen on two days; this record allows "
            f"{' or '.join(order[: order.index(finest) + 1])}"
        )
    return asked or finest


def _curve_price(offer: Offer, terms: Terms) -> float:
    """Of the units that are held at all hours, else the lowest there is."""
    return offer.base_usd if offer.base is not None else min(terms.hourly_usd.values())


def _curve(table: Saved, unit_usd: float) -> tuple[Point, ...]:
    alone = float(table.paid_usd.sum()) / table.hours
    taken = table.taken_usd.sum(axis=(0, 1)) / table.hours
    pairs = zip(table.levels.tolist(), taken.tolist(), strict=True)
    return tuple(Point(level, level * unit_usd, alone - usd) for level, usd in pairs)


def _next_use(demand: Need) -> tuple[tuple[float, float], ...]:
    """Use of one more unit by units held: the share of time, weighed by the money that it takes over."""
    order = np.argsort(demand.units)[::-1]
    units, value = demand.units[order], demand.usd_per_unit[order]
    mean = float(demand.usd.sum() / demand.units.sum())
    use = np.cumsum(value) / (mean * len(value))
    at = np.unique(np.linspace(0, len(units) - 1, 200).astype(int))
    points = [(float(units[i]), float(use[i])) for i in at[::-1] if units[i] > 0.0]
    return ((0.0, points[0][1]), *points)


def _p95(minutes: Minutes, table: Saved, unit_usd: float) -> Point:
    """Units for the minute of 95 %, held at all hours."""
    lots = ceil(float(np.percentile(minutes.all.units, 95)) / table.lot)
    return _curve(table, unit_usd)[lots]


def _profiles(minutes: Minutes, found: Days, pattern: Pattern) -> tuple[Profile, ...]:
    """One for each kind of day that was seen at every hour."""
    profiles = []
    for kind in pattern.kinds:
        inside = np.isin(found.weekday, [WEEK.index(day) for day in kind])
        needs = [minutes.all.units[inside & (found.hour == hour)] for hour in range(HOURS)]
        if all(len(units) for units in needs):
            p50, p95 = ([float(np.percentile(units, q)) for units in needs] for q in (50, 95))
            profiles.append(Profile(kind, tuple(p50), tuple(p95)))
    return tuple(profiles)
