"""A scenario as a picture: load, usefulness against the best fixed setting, quality against the floor, shares, limits,
and latencies against their objectives, over one axis of time with what changed marked on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from textwrap import wrap
from typing import Final

from router.cli.report.charts import Axis
from router.cli.report.markup import Html, shown, tag
from router.cli.scenarios.drawing import LEFT, RIGHT, WIDTH, Panel, area, frame, last, line, names, steps
from router.cli.scenarios.style import STYLE
from router.sim.scenarios.course import SMOOTHED
from router.sim.scenarios.measures import SETTLED_RATIO, is_below
from router.sim.scenarios.play import Told

_TOP: Final = 196.0
_HEIGHT: Final = 104.0
_BETWEEN: Final = 38.0
_COLOURS: Final = 6
_LATENCY_LOW, _LATENCY_HIGH = 0.05, 4.0
_LETTERS: Final = 118
_KINDS: Final = {"ttft": "second", "tpot": "third", "e2e": "load"}
_NAMES: Final = {"ttft": "first token", "tpot": "per token", "e2e": "end to end"}
Draw = Callable[[Told, Panel], list[Html]]


def picture(told: Told) -> str:
    """One SVG file, complete in itself."""
    panels = _panels(told)
    height = panels[-1][0].floor + 54.0
    inside = [tag("rect", class_="page", x=0.0, y=0.0, width=WIDTH, height=height), *_header(told)]
    inside += _phases(told, [panel for panel, _ in panels])
    for panel, draw in panels:
        times = panel_times(panel.ends_s[1]) if panel is panels[-1][0] else ()
        inside += [*frame(panel, times=times), *draw(told, panel)]
    inside.append(tag("text", "seconds", class_="tick", x=RIGHT, y=height - 18.0, text_anchor="end"))
    said = f"{told.question} The report holds the figures."
    heads = (tag("title", told.title, id="title"), tag("desc", said, id="told"), tag("style", Html(STYLE)))
    size = {"width": f"{WIDTH:g}", "height": f"{height:g}", "viewBox": f"0 0 {WIDTH:g} {height:g}"}
    return str(
        tag(
            "svg",
            *heads,
            *inside,
            xmlns="http://www.w3.org/2000/svg",
            role="img",
            aria_labelledby="title told",
            **size,
        )
    )


def panel_times(end_s: float) -> list[float]:
    """Round seconds along the axis."""
    return Axis("", 0.0, end_s, "g").ticks() if end_s < 100 else [30.0 * n for n in range(int(end_s // 30) + 1)]


def _panels(told: Told) -> list[tuple[Panel, Draw]]:
    smoothed = f"over {SMOOTHED * told.window_s:g} s"
    whose = "all" if told.ours.watched == told.ours.offered else "the other tenants"
    most = max(o / told.window_s for o in told.ours.offered)
    lowest = [v for one in (told.ours, told.best) for v in one.useful_ratio() if v is not None]
    wanted: list[tuple[str, str, Axis, Draw]] = [
        ("Load", f"requests a second, in windows of {told.window_s:g} s", Axis("", 0.0, most * 1.08, ".0f"), _load),
        ("Useful", f"in time and adequate, of what {whose} sent, {smoothed}", _shares(lowest), _useful),
    ]
    if told.floor is not None:
        adequate = [v for one in (told.ours, told.best) for v in one.adequate_ratio() if v is not None]
        unit = f"of what was answered, {smoothed}; the red bar: surely under the floor"
        wanted.append(("Adequate", unit, _shares([*adequate, told.floor.ratio]), _adequate))
    flights = [n for stand in told.stands.values() for n in stand.in_flight]
    wanted += [
        ("Where requests go", f"share of what was offered, {smoothed}", Axis("", 0.0, 1.0, ".0%"), _went),
        ("In flight, and limit", "calls by deployment; dashed: limit", _flights(flights), _limits),
        (
            "Latency over its objective",
            f"95th percentile in windows of {told.window_s:g} s, logarithmic; the red bar: objective missed",
            Axis("", _LATENCY_LOW, _LATENCY_HIGH, "g", log=True),
            _latency,
        ),
    ]
    ends = (0.0, told.phases[-1].until_s)
    return [
        (Panel(title, unit, axis, _TOP + n * (_HEIGHT + _BETWEEN), _HEIGHT, ends), draw)
        for n, (title, unit, axis, draw) in enumerate(wanted)
    ]


def _shares(values: Sequence[float]) -> Axis:
    """Down to the least value, and room for what is written under it."""
    least = min(values, default=0.0)
    return Axis("", max(least - max(0.25 * (1.0 - least), 0.05), 0.0), 1.0, ".0%")


def _flights(values: Sequence[int]) -> Axis:
    return Axis("", 0.0, max(max(values, default=0) * 1.35, 8.0), ".0f")


def _header(told: Told) -> list[Html]:
    parts = [tag("text", told.title, class_="title", x=LEFT, y=38.0)]
    for row, text in enumerate(wrap(told.question, _LETTERS)[:2]):
        parts.append(tag("text", text, class_="question", x=LEFT, y=60.0 + 17.0 * row))
    figures = told.figures
    settled = "not in all" if figures.settled_s is None else f"{figures.settled_s:g} s"
    breach = f"{figures.floor_breaches} ({figures.floor_breach_s:g} s)" if told.floor is not None else "–"
    shown_figures = (
        ("useful", shown(figures.useful, ".1%")),
        ("best fixed setting", shown(figures.best_useful, ".1%")),
        ("slowest settling", settled),
        ("overshoot", shown(figures.overshoot_ratio, ".0%")),
        ("objectives missed", f"{figures.violation_s:g} s"),
        ("flips a minute", shown(figures.flips_per_min, ".1f")),
        ("floor breaches", breach),
        ("useful lost to best", f"{figures.regret:+.0f}"),
    )
    step = (WIDTH - 2 * LEFT + 40.0) / len(shown_figures)
    for column, (name, figure) in enumerate(shown_figures):
        x = LEFT + column * step
        parts.append(tag("text", figure, class_="figure", x=x, y=112.0))
        parts.append(tag("text", name, class_="name", x=x, y=129.0))
    return parts


def _phases(told: Told, panels: Sequence[Panel]) -> list[Html]:
    """Every second phase is shaded; each begins with its change."""
    parts, first, bottom = list[Html](), panels[0], panels[-1].floor
    top = first.top - 44.0
    for number, phase in enumerate(told.phases):
        x, end = first.across(phase.at_s), first.across(phase.until_s)
        if number % 2:
            parts.append(tag("rect", class_="wash", x=x, y=top, width=end - x, height=bottom - top))
        if number:
            spans = [(top, top + 18.0), *((panel.top, panel.floor) for panel in panels)]
            parts += [tag("line", class_="event", x1=x, x2=x, y1=high, y2=low) for high, low in spans]
        parts.append(tag("text", phase.change, class_="change", x=x + 6.0, y=top + 14.0))
    return parts


def _begins(told: Told) -> list[float]:
    return [0.0, *told.ours.ends_s[:-1]]


def _load(told: Told, panel: Panel) -> list[Html]:
    ends = told.ours.ends_s
    offered = [count / told.window_s for count in told.ours.offered]
    refused = [count / told.window_s for count in told.ours.refused]
    xs = [x for pair in zip(_begins(told), ends, strict=True) for x in pair]
    lost = [value for value in refused for _ in (0, 1)]
    parts = [
        area(panel, "refused", xs, lost, [0.0] * len(lost), said=f"{sum(told.ours.refused)} shed or failed"),
        steps(panel, "load", _begins(told), ends, offered),
    ]
    return parts + names(panel, [("offered", "load", offered[-1]), ("shed or failed", "refused", refused[-1])])


def _useful(told: Told, panel: Panel) -> list[Html]:
    ends, ours, best = told.ours.ends_s, told.ours.useful_ratio(), told.best.useful_ratio()
    near = [None if value is None else (1.0 - SETTLED_RATIO) * value for value in best]
    parts = [area(panel, "band", ends, best, near, said="within 5 % of the best fixed setting")]
    parts += [line(panel, "best", ends, best), line(panel, "ours", ends, ours)]
    for phase in told.phases:
        settled = phase.figures.settled_s
        if settled is None:
            x, text = panel.across(phase.until_s) - 6.0, "not settled"
            parts.append(tag("text", text, class_="name bound", x=x, y=panel.floor - 6.0, text_anchor="end"))
            continue
        x = panel.across(phase.at_s + settled)
        parts.append(tag("line", class_="settled", x1=x, x2=x, y1=panel.floor - 16.0, y2=panel.floor))
        parts.append(tag("text", f"settled {settled:g} s", class_="name ours", x=x + 5.0, y=panel.floor - 6.0))
    return parts + names(panel, _told(("router", "ours", last(ours)), ("best fixed, in hindsight", "best", last(best))))


def _adequate(told: Told, panel: Panel) -> list[Html]:
    assert told.floor is not None
    ends, ours, best = told.ours.ends_s, told.ours.adequate_ratio(), told.best.adequate_ratio()
    floor = told.floor.ratio
    adequate, served = told.ours.summed(told.ours.adequate), told.ours.summed(told.ours.served)
    below = [is_below(a, s, floor) for a, s in zip(adequate, served, strict=True)]
    parts = [line(panel, "bound", panel.ends_s, (floor, floor))]
    parts += [line(panel, "best", ends, best), line(panel, "ours", ends, ours), *_bars(told, panel, below)]
    named = f"floor {floor:.0%}" if told.floor.holds else f"floor {floor:.0%}, may give"
    return (
        parts
        + names(panel, _told(("router", "ours", last(ours)), ("best fixed", "best", last(best))))
        + [tag("text", named, class_="name bound", x=LEFT + 6.0, y=panel.up(floor) + 13.0)]
    )


def _bars(told: Told, panel: Panel, marked: Sequence[bool]) -> list[Html]:
    """Windows in which a promise is broken, under the axis of a panel."""
    width = panel.across(told.window_s) - panel.across(0.0)
    return [
        tag("rect", class_="broken", x=panel.across(begin), y=panel.floor + 1.5, width=width, height=4.0)
        for begin, broken in zip(_begins(told), marked, strict=True)
        if broken
    ]


def _went(told: Told, panel: Panel) -> list[Html]:
    deployments = list(told.ours.went)
    shares = [[value or 0.0 for value in told.ours.share(name) for _ in (0, 1)] for name in deployments]
    xs = [x for pair in zip(_begins(told), told.ours.ends_s, strict=True) for x in pair]
    tops = list(accumulate(shares, lambda below, more: [b + m for b, m in zip(below, more, strict=True)]))
    floors: list[list[float]] = [[0.0] * len(xs), *tops]
    parts, told_names = list[Html](), list[tuple[str, str, float]]()
    for number, (name, low, high) in enumerate(zip(deployments, floors, tops, strict=False)):
        kind = f"dep d{number % _COLOURS}"
        parts.append(area(panel, kind, xs, high, low, said=name))
        told_names.append((name, kind, (low[-1] + high[-1]) / 2.0))
    return (
        parts
        + names(panel, told_names)
        + [tag("text", "empty: shed or failed", class_="name", x=RIGHT + 10.0, y=panel.top - 8.0)]
    )


def _limits(told: Told, panel: Panel) -> list[Html]:
    parts, told_names = list[Html](), list[tuple[str, str, float]]()
    for number, (name, stand) in enumerate(told.stands.items()):
        kind = f"dep d{number % _COLOURS}"
        until = panel.ends_s[1]
        inside = [n for n, at_s in enumerate(stand.at_s) if at_s <= until]
        xs = [stand.at_s[n] for n in inside]
        parts.append(line(panel, kind, xs, [float(stand.in_flight[n]) for n in inside]))
        parts.append(line(panel, f"{kind} limit", xs, [stand.limit[n] for n in inside]))
        told_names.append((name, kind, float(stand.in_flight[inside[-1]]) if inside else 0.0))
        limit = last([stand.limit[n] for n in inside])
        if limit is not None:
            off = f", {limit:.0f}" if limit > panel.y.high else ""
            told_names.append((f"limit of {name}{off}", kind, limit))
    return parts + names(panel, told_names)


def _latency(told: Told, panel: Panel) -> list[Html]:
    parts = [line(panel, "bound", panel.ends_s, (1.0, 1.0))]
    told_names: list[tuple[str, str, float]] = [("objective", "bound", 1.0)]
    missed = [False] * len(told.ours.ends_s)
    middles = [end - told.window_s / 2.0 for end in told.ours.ends_s]
    for indicator, series in told.ours.latency.items():
        kind = _KINDS[indicator]
        parts.append(line(panel, kind, middles, series))
        told_names += _told((_NAMES[indicator], kind, last(series)))
        missed = [was or (value is not None and value > 1.0) for was, value in zip(missed, series, strict=True)]
    return [*parts, *_bars(told, panel, missed), *names(panel, told_names)]


def _told(*each: tuple[str, str, float | None]) -> list[tuple[str, str, float]]:
    return [(text, kind, value) for text, kind, value in each if value is not None]
