"""The plan that comes of an advice."""

from __future__ import annotations

from collections.abc import Iterator

from router.cli.capacity.told import Told
from router.sim.capacity.offers import Commitment
from router.sim.capacity.plan import (
    Assumptions,
    BreakEven,
    Expected,
    Interval,
    Plan,
    Purchase,
    Rate,
    Record,
    Tokens,
    Window,
)
from router.sim.capacity.proof import Span


def plan_of(told: Told) -> Plan:
    """What to buy and why; what the figures are good for is rounded to that."""
    advice, best, demand = told.advice, told.advice.best, told.demand
    unit, price = told.priced.unit, told.priced.on_demand
    return Plan(
        kind="capacity-plan",
        version=1,
        made_on=told.date,
        model=told.model,
        deployment=told.priced.deployment,
        region=told.priced.region,
        timezone=told.timezone,
        unit=Rate(input=unit.input_tokens_per_min, output=unit.output_tokens_per_min),
        purchases=tuple(_purchases(told)),
        expected=Expected(
            on_demand_usd_per_hour=round(advice.alone_usd, 4),
            usd_per_hour=_interval(best.usd_per_hour),
            saving_ratio=_interval(best.saving_ratio),
        ),
        break_even=BreakEven(
            utilisation={term: round(ratio, 4) for term, ratio in advice.critical_ratio.items()},
            demand=None if advice.demand_break_even is None else round(advice.demand_break_even, 4),
        ),
        assumptions=Assumptions(
            on_demand_usd_per_mtok=Tokens(input=price.input_usd_per_mtok, output=price.output_usd_per_mtok),
            scale=told.scale,
            hourly_usd=dict(told.priced.hourly_usd),
            lot=advice.lot,
            schedule=advice.pattern.value,
            notes=told.notes,
        ),
        input=Record(
            kind="log" if demand.kind == "log" else "trace",
            name=demand.name,
            sha256=demand.sha256,
            begins=demand.begins,
            ends=demand.ends,
            calls=demand.calls,
        ),
    )


def _purchases(told: Told) -> Iterator[Purchase]:
    """The base first; then, for each number of units on top of it, the hours that have it."""
    advice, offer = told.advice, told.advice.best.offer
    if offer.base is not None and advice.base_units:
        yield Purchase(commitment=offer.base, units=advice.base_units, hourly_usd=offer.base_usd)
    if offer.by_hours_usd is None:
        return
    windows: dict[int, list[Window]] = {}
    for one in advice.held:
        extra = round(one.units.mean) - one.base
        window = Window.model_validate({"days": one.days, "from": one.start, "to": one.end})
        if extra:
            windows.setdefault(extra, []).append(window)
    for extra, found in sorted(windows.items()):
        yield Purchase(commitment=Commitment.NONE, units=extra, hourly_usd=offer.by_hours_usd, hours=tuple(found))


def _interval(span: Span) -> Interval:
    return Interval(mean=round(span.mean, 4), low=round(span.low, 4), high=round(span.high, 4))
