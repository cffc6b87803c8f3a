"""What a terminal shows of an advice: what to hold when, what each way to buy costs, and the cost curve."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.cli.capacity.told import HOURS_A_MONTH, Told, days_said, hours_said
from router.sim.capacity.advice import Advice, Point
from router.sim.capacity.course import Hours
from router.sim.capacity.notes import lasted
from router.sim.capacity.proof import Span

_BAR = 44
_ROWS = 12
_HOLD = "Units to hold (95 %), of them at all hours, and USD/h: before, reserved, spilled, in all"


def advice_view(told: Told) -> RenderableType:
    """All of it, one part under the other."""
    parts: list[RenderableType] = [_head(told)]
    parts += [Text(f"! {note}", style="yellow") for note in told.notes]
    parts += [Text(""), _held(told.advice), Text(""), _offers(told.advice), Text(""), _curve(told), _break_even(told)]
    return Group(*parts)


def in_short(told: Told) -> str:
    """The advice in a sentence or two."""
    advice, best = told.advice, told.advice.best
    if not advice.buys:
        return f"Reserve nothing for {told.model}: all on demand costs least, USD {usd_said(advice.alone_usd)} an hour."
    low, high = (min(one.units.mean for one in advice.held), max(one.units.mean for one in advice.held))
    units = f"{high:.0f} unit{'s' if high != 1 else ''}" if low == high else f"{low:.0f} to {high:.0f} units"
    saving, usd = best.saving_ratio, (advice.alone_usd - best.usd_per_hour.mean) * HOURS_A_MONTH
    return (
        f"Hold {units} for {told.model} ({best.offer.name}): USD {usd_said(best.usd_per_hour.mean)} an hour in place "
        f"of {usd_said(advice.alone_usd)} all on demand. That saves {saving.mean:.1%} (95 %: {saving.low:.1%} to "
        f"{saving.high:.1%}), USD {usd:,.0f} a month."
    )


def _head(told: Told) -> Text:
    demand, unit = told.demand, told.priced.unit
    scaled = "" if told.scale == 1.0 else f", times {told.scale:g}"
    return Text(
        f"{in_short(told)}\n"
        f"{demand.calls:,} calls in {lasted(told.advice.hours)} from {demand.begins}{scaled}: "
        f"{demand.input_tokens_per_min:,.0f} input and {demand.output_tokens_per_min:,.0f} output tokens a minute; a "
        f"unit takes {unit.input_tokens_per_min:,.0f} and {unit.output_tokens_per_min:,.0f}, "
        f"output binds {demand.output_bound_ratio:.0%} of the money"
    )


def usd_said(usd: float) -> str:
    """Dollars, in tenths of a cent where they are few."""
    return f"{usd:,.2f}" if abs(usd) >= 10.0 else f"{usd:.3f}"


def units_said(units: Span) -> str:
    """With the interval, where it says something."""
    same = units.low == units.mean == units.high
    return f"{units.mean:.0f}" if same else f"{units.mean:.0f} ({units.low:.0f}-{units.high:.0f})"


def _held(advice: Advice) -> Table:
    table = Table("days", "hours", box=None, pad_edge=False, title=_HOLD, title_justify="left")
    for name in ("units", "base", "in use", "before", "reserved", "spilled", "USD/h"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in advice.held:
        table.add_row(*_held_row(one, committed=advice.best.offer.by_hours_usd is not None))
    return table


def _held_row(one: Hours, *, committed: bool) -> Sequence[str]:
    use = "-" if one.utilisation_ratio is None else f"{one.utilisation_ratio:.0%}"
    return (
        days_said(one.days),
        hours_said(one.start, one.end),
        units_said(one.units),
        f"{one.base}" if committed else "-",
        use,
        f"{one.alone_usd:.3f}",
        f"{one.reserved_usd:.3f}",
        f"{one.spilled_usd:.3f}",
        f"{one.reserved_usd + one.spilled_usd:.3f}",
    )


def _offers(advice: Advice) -> Table:
    title = f"Ways to buy: USD/h and saving on each {advice.fold} by what the others chose, and USD/h as chosen on all"
    table = Table("", "way", box=None, pad_edge=False, title=title, title_justify="left")
    for name in ("USD/h", "95 %", "saving", "95 %", "chosen"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, one in enumerate(advice.offers):
        cost, saving = one.usd_per_hour, one.saving_ratio
        table.add_row(
            "*" if number == advice.chosen else "",
            one.offer.name,
            f"{cost.mean:.3f}",
            f"{cost.low:.3f} to {cost.high:.3f}",
            f"{saving.mean:.1%}",
            f"{saving.low:.1%} to {saving.high:.1%}",
            f"{one.chosen_usd_per_hour:.3f}",
        )
    return table


def shown_points(curve: Sequence[Point], most: int) -> list[Point]:
    """At most about so many points of a curve, its minimum among them: as far as it is not twice what it begins at."""
    least = min(range(len(curve)), key=lambda at: curve[at].total_usd)
    bound = 2.0 * curve[0].total_usd
    end = max(least + 2, next((at for at, p in enumerate(curve) if at > least and p.total_usd > bound), len(curve)))
    end = min(end, len(curve))
    step = max(1, -(-end // most))
    return [point for at, point in enumerate(curve[:end]) if at % step == 0 or at == least]


def _curve(told: Told) -> Text:
    """A bar for each number of units: what is reserved, and what is still bought on demand."""
    advice = told.advice
    points = shown_points(advice.curve, _ROWS)
    least = min(points, key=lambda point: point.total_usd)
    most = max(point.total_usd for point in points)
    text = Text(f"USD/h by units held at all hours at USD {advice.curve_usd:g} each (█ reserved, ░ on demand)\n")
    for point in points:
        reserved = round(point.reserved_usd / most * _BAR)
        whole = round(point.total_usd / most * _BAR)
        mark = "  <- least" if point is least else ""
        text.append(f"{point.units:6d} {point.total_usd:9.3f} {'█' * reserved}{'░' * (whole - reserved)}{mark}\n")
    return text


def _break_even(told: Told) -> Text:
    advice = told.advice
    ratios = ", ".join(f"{ratio:.0%} ({term})" for term, ratio in advice.critical_ratio.items())
    parts = [f"A unit pays from this use on: {ratios}"]
    if advice.utilisation_ratio is not None:
        parts.append(f"those advised are in use {advice.utilisation_ratio:.0%} of their time")
    if advice.demand_break_even is not None:
        parts.append(f"the advice pays down to {advice.demand_break_even:.0%} of the demand seen")
    times = advice.p95.total_usd / advice.alone_usd
    parts.append(f"sizing to the 95th percentile ({advice.p95.units} units) would cost {times:.2f} times all on demand")
    return Text("; ".join(parts) + ".")
