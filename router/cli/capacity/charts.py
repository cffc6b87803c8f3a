"""The three pictures of an advice: what numbers of units cost, where one more stops paying, and the hours of a day."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from router.cli.capacity.told import Told, days_said
from router.cli.capacity.view import shown_points
from router.cli.report.charts import Area, Axis, Chart, Frame, Line, Mark, Rule, draw
from router.cli.report.markup import Html
from router.sim.capacity.advice import Advice, Profile
from router.sim.capacity.days import HOURS
from router.sim.capacity.offers import Commitment

_MOST_POINTS = 160
_AIR = 1.06
TERMS = {
    Commitment.NONE: "no commitment",
    Commitment.ONE_MONTH: "one month",
    Commitment.SIX_MONTHS: "six months",
}


def cost_curve(told: Told) -> Html:
    """Reserved and on-demand money over the units that are held at all hours, with the minimum marked."""
    advice = told.advice
    points = shown_points(advice.curve, _MOST_POINTS)
    total = [(float(p.units), p.total_usd) for p in points]
    reserved = [(float(p.units), p.reserved_usd) for p in points]
    floor = [(x, 0.0) for x, _ in reserved]
    least = min(points, key=lambda p: p.total_usd)
    high = max(usd for _, usd in total) * _AIR
    frame = Frame(
        Axis("Units held at all hours", 0.0, total[-1][0], ".3g"), Axis("USD an hour", 0.0, high, _money(high))
    )
    said = f"{least.units} unit{'s' if least.units != 1 else ''}, USD {least.total_usd:.2f}"
    return draw(
        Chart(
            name="cost-curve",
            title="Cost of every number of units",
            told=f"Total cost falls from {points[0].total_usd:.2f} USD an hour with no unit to {said}, then rises.",
            frame=frame,
            areas=(
                Area("m0", reserved, floor, "Reserved, used or not", _inside("reserved", reserved, floor)),
                Area("m1", total, reserved, "Still bought on demand", _inside("on demand", total, reserved)),
            ),
            lines=(Line("total", "router", total),),
            rules=(Rule("all on demand", y=advice.alone_usd),),
            marks=(Mark("router", float(least.units), least.total_usd, said, drop=True),),
            note=f"One unit at USD {advice.curve_usd:g} an hour; minutes of the whole record",
        )
    )


def _inside(
    text: str, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]
) -> tuple[str, float, float]:
    """A name where the area is highest, away from the edges."""
    inner = range(len(upper) // 8, max(len(upper) - len(upper) // 8, len(upper) // 8 + 1))
    at = max(inner, key=lambda i: upper[i][1] - lower[i][1])
    return text, upper[at][0], (upper[at][1] + lower[at][1]) / 2.0


def next_use(told: Told) -> Html:
    """How much of its time one more unit would be in use, against the use from which it pays."""
    advice = told.advice
    end = max(point.units for point in shown_points(advice.curve, _MOST_POINTS))
    line = [(units, use) for units, use in advice.next_use if units <= end] or [advice.next_use[0]]
    ratios = [(term, ratio) for term, ratio in advice.critical_ratio.items()]
    high = max([1.0, *(use for _, use in line), *(ratio for _, ratio in ratios if ratio < 1.5)]) * _AIR
    return draw(
        Chart(
            name="next-use",
            title="Use of one more unit",
            told="The use falls with every unit that is held; the best number is where it falls below the price ratio.",
            frame=Frame(
                Axis("Units held already", 0.0, float(end), ".3g"), Axis("In use, share of time", 0.0, high, ".0%")
            ),
            lines=(
                *(
                    Line(f"pays above {ratio:.0%}: {TERMS[term]}", "fixed", [(0.0, ratio), (float(end), ratio)], at=1.0)
                    for term, ratio in ratios
                    if ratio < high
                ),
                Line("one more unit", "router", _steps(line)),
            ),
            note="Time weighed by the on-demand money that the unit takes over",
        )
    )


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Level up to each point, then down: a unit between two of them is used as the higher one."""
    found = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)]
    return found


def hours_of(told: Told, profile: Profile, name: str) -> Html:
    """Units needed and units advised by hour of one kind of day."""
    advice = told.advice
    held = _advised(advice, profile)
    high = max(*profile.p95, *held, 1.0) * _AIR
    frame = Frame(Axis("Hour of the day", 0.0, float(HOURS), ".0f"), Axis("Units", 0.0, high, ".3g"), height=320)
    days = days_said(profile.days)
    return draw(
        Chart(
            name=name,
            title=f"Units needed and advised, {days}",
            told=f"Median and 95th percentile of the units that minutes need, by hour, and those advised, {days}.",
            frame=frame,
            areas=(Area("band", _level(profile.p95), _level(profile.p50), "Median to 95th percentile of minutes"),),
            lines=(
                Line("95 % of minutes", "random", _level(profile.p95), at=0.45),
                Line("median minute", "oracle", _level(profile.p50), at=0.45, below=True),
                Line("advised", "router", _level(held), at=0.8),
            ),
            note=f"Hours in {told.timezone}",
        )
    )


def _advised(advice: Advice, profile: Profile) -> list[float]:
    units = [0.0] * HOURS
    for one in advice.held:
        if set(profile.days) <= set(one.days):
            units[one.start : one.end] = [one.units.mean] * (one.end - one.start)
    return units


def _level(by_hour: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(at), value) for hour, value in enumerate(by_hour) for at in (hour, hour + 1)]


def _money(high: float) -> str:
    return ",.0f" if high >= 20 else ".1f" if high >= 2 else ".3g"
