"""The page of an advice: what to hold, what it costs, where it stops paying, and on what it rests."""

from __future__ import annotations

from router.cli.capacity.charts import TERMS, cost_curve, hours_of, next_use
from router.cli.capacity.told import HOURS_A_MONTH, Told, days_said, hours_said
from router.cli.capacity.view import in_short, shown_points, units_said, usd_said
from router.cli.report.bars import whisker
from router.cli.report.markup import Html, cards, facts, fold, join, kept, shown, table, tag, warning
from router.cli.report.page import document
from router.sim.capacity.notes import lasted
from router.sim.capacity.proof import Span

_ROWS = 40
_DRAWN = (-0.5, 0.8)


def advice_page(told: Told) -> str:
    """The whole document."""
    title = f"Reserved capacity for {told.model}"
    return document(title, _head(told, title), _hold(told), _cost(told), _ways(told), _changes(told), _origin(told))


def _head(told: Told, title: str) -> Html:
    eyebrow = f"{told.demand.calls:,} calls in {lasted(told.advice.hours)}"
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", title),
        tag("p", kept(_percents(in_short(told))), class_="lede"),
        *(warning(kept(_percents(note))) for note in told.notes),
        cards(_headline(told)),
    )


def _percents(text: str) -> str:
    return text.replace("%", " %").replace("  %", " %")


def _headline(told: Told) -> list[tuple[str, str, str]]:
    advice, best = told.advice, told.advice.best
    cost, saving = best.usd_per_hour, best.saving_ratio
    low, high = (pick(one.units.mean for one in advice.held) for pick in (min, max))
    units = f"{high:.0f}" if low == high else f"{low:.0f}-{high:.0f}"
    unit = told.priced.unit
    size = f"of {unit.input_tokens_per_min:,.0f} in and {unit.output_tokens_per_min:,.0f} out a minute"
    month = (advice.alone_usd - cost.mean) * HOURS_A_MONTH
    span = f"95 %: {usd_said(cost.low)} to {usd_said(cost.high)}; all on demand {usd_said(advice.alone_usd)}"
    least = min(advice.critical_ratio.values(), default=0.0)
    pays = f"A unit pays from {least * 100:.0f} %"
    if advice.demand_break_even is not None:
        pays += f", the advice down to {advice.demand_break_even * 100:.0f} % of the demand seen"
    use = advice.utilisation_ratio
    return [
        ("Units to hold", units, size),
        ("USD an hour", usd_said(cost.mean), span),
        ("Saved", _percent(saving.mean), f"95 %: {_plain(saving)}; USD {month:,.0f} a month"),
        ("Units in use", "–" if use is None else _percent(use), pays),
    ]


def _percent(ratio: float) -> Html:
    return join(f"{ratio * 100:.1f}", tag("small", " %"))


def _plain(span: Span) -> str:
    return f"{span.low * 100:.1f} to {span.high * 100:.1f} %"


def _hold(told: Told) -> Html:
    advice = told.advice
    heads = ("when", "units (95 %)", "of them at all hours", "in use", "all on demand", "reserved", "spilled", "USD/h")
    rows = [
        [
            f"{days_said(one.days)}, {hours_said(one.start, one.end)}",
            units_said(one.units),
            str(one.base),
            shown(one.utilisation_ratio, ".0%"),
            f"{one.alone_usd:.3f}",
            f"{one.reserved_usd:.3f}",
            f"{one.spilled_usd:.3f}",
            f"{one.reserved_usd + one.spilled_usd:.3f}",
        ]
        for one in advice.held
    ]
    pictures = [hours_of(told, profile, f"hours-{n}") for n, profile in enumerate(advice.profiles)]
    said = (
        f"The advice is “{advice.best.offer.name}”. Intervals of units are those of {advice.fold}s drawn again. "
        "Money is USD an hour in those hours."
    )
    return tag("section", tag("h2", "What to hold"), tag("p", kept(said)), table("Units", heads, rows), *pictures)


def _cost(told: Told) -> Html:
    advice = told.advice
    points = shown_points(advice.curve, _ROWS)
    heads = ("units", "reserved", "on demand", "USD/h", "of all on demand")
    rows = [
        [
            str(p.units),
            f"{p.reserved_usd:.3f}",
            f"{p.spilled_usd:.3f}",
            f"{p.total_usd:.3f}",
            shown(p.total_usd / advice.alone_usd, ".1%"),
        ]
        for p in points
    ]
    p95 = advice.p95
    said = (
        "A unit costs the same whether it is used or not. One more of them pays as long as it is in use for more of "
        "its time than its price is of what it serves on demand in full use. Sizing to the 95th percentile "
        f"({p95.units} units) would cost {p95.total_usd / advice.alone_usd:.2f} times all on demand."
    )
    return tag(
        "section",
        tag("h2", "What units cost, and where one more stops paying"),
        tag("p", said),
        cost_curve(told),
        next_use(told),
        fold("Figures of the cost curve", table("USD an hour by units held at all hours", heads, rows)),
    )


def _ways(told: Told) -> Html:
    advice = told.advice
    heads = ("way", "USD/h", "95 %", "saving", "95 %", "costs | saves", "USD/h as chosen")
    rows = [
        [
            f"{one.offer.name} (advised)" if one is advice.best else one.offer.name,
            f"{one.usd_per_hour.mean:.3f}",
            f"{one.usd_per_hour.low:.3f} to {one.usd_per_hour.high:.3f}",
            shown(one.saving_ratio.mean, ".1%"),
            _plain(one.saving_ratio),
            whisker(one.saving_ratio.mean, one.saving_ratio.low, one.saving_ratio.high, _DRAWN, 0.0),
            f"{one.chosen_usd_per_hour:.3f}",
        ]
        for one in advice.offers
    ]
    said = (
        f"Each {advice.fold} is paid for with the units that the other {advice.fold}s would have chosen, so that no "
        "way to buy is judged on what it was fitted to; “as chosen” is the flattering figure. The least is advised."
    )
    return tag("section", tag("h2", "Ways to buy"), tag("p", said), table("Ways to buy", heads, rows))


def _changes(told: Told) -> Html:
    advice = told.advice
    rows = [
        [
            f"{one.factor:g} times",
            f"{one.alone_usd:.3f}",
            f"{one.advised_usd:.3f}",
            shown(1.0 - one.advised_usd / one.alone_usd, ".1%"),
        ]
        for one in advice.grown
    ]
    even = advice.demand_break_even
    said = "Nothing is held, so there is nothing to lose."
    if even is not None:
        said = f"Below {shown(even, '.0%')} of the demand seen, the advice costs more than all on demand."
    heads = ("demand", "all on demand", "as advised", "saved")
    return tag("section", tag("h2", "If demand changes"), tag("p", said), table("USD an hour", heads, rows))


def _origin(told: Told) -> Html:
    demand, priced = told.demand, told.priced
    unit, price = priced.unit, priced.on_demand
    asked = (
        f"{demand.input_tokens_per_min:,.0f} input and {demand.output_tokens_per_min:,.0f} output tokens a minute, "
        f"calls times {told.scale:g}; output binds {demand.output_bound_ratio * 100:.0f} % of the money"
    )
    takes = f"{unit.input_tokens_per_min:,.0f} input and {unit.output_tokens_per_min:,.0f} output tokens a minute"
    sold = f"USD {price.input_usd_per_mtok:g} and {price.output_usd_per_mtok:g} per million tokens in and out"
    found = [
        ("Date", told.date),
        ("Command", tag("code", told.command)),
        ("Record", f"{demand.kind} {demand.name}, {demand.begins} to {demand.ends}, {demand.minutes:,} minutes"),
        ("SHA-256 of its calls", tag("code", demand.sha256)),
        ("Demand", kept(asked)),
        ("One unit", takes),
        ("Prices of a unit", "; ".join(f"{TERMS[t]} USD {usd:g} an hour" for t, usd in priced.hourly_usd.items())),
        ("On demand", sold),
    ]
    if priced.deployment is not None:
        found.append(("Deployment", f"{priced.deployment}{'' if priced.region is None else f' in {priced.region}'}"))
    said = (
        "Tokens of a call count in the minute it came. A burst that idle minutes before it would pay for, where "
        "buckets carry tokens over, is not counted. What was refused, or answered by another model, is no demand here."
    )
    return tag("section", tag("h2", "What this rests on"), tag("p", said), facts(found))
