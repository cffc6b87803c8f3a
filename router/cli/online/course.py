"""The sections on a stream: against the models alone, which were chosen when, quality and cost on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from router.cli.report.charts import Area, Axis, Chart, Frame, Line, Mark, Rule, draw, spanning
from router.cli.report.markup import Html, fold, shown, table, tag
from router.sim.online.happenings import Happening
from router.sim.online.references import Alone, Interval, mixture
from router.sim.online.stream import BIN, Moment, Streamed

_PER: Final = 1000.0
_COLOURS: Final = 6
_LEAST_NAMED: Final = 0.09
"""Share of the height that a name needs."""
_NAME_ROOM: Final = 0.065
"""Share of the height, over the areas, for the name of one event."""
_STEPS: Final = 120
_USD: Final = "USD per 1,000 requests"


def held_against(result: Streamed, budget_usd: float) -> Html:
    """The router among the models alone and their mixtures."""
    against = result.against
    said = (
        "The mixture is the best that models drawn at random can earn for the same mean cost. A router that looks at "
        "the prompts and learns should lie above it."
    )
    rows = [["learning router", *_figures(result.quality, result.cost_usd)]]
    rows.append(["mixture at the router's cost", *_figures(against.mixture, None)])
    rows += [[f"always {one.model}", *_figures(one.quality, one.cost_usd)] for one in against.alone]
    heads = ("", "quality", "95 % from", "to", _USD, "95 % from", "to", "cost / budget")
    for row, cost in zip(rows, (result.cost_usd, None, *(one.cost_usd for one in against.alone)), strict=True):
        row.append("" if cost is None else shown(cost.mean / budget_usd, ".2f"))
    return tag(
        "section",
        tag("h2", "Against the models alone"),
        tag("p", said),
        _plane(result, budget_usd),
        table("Figures with intervals of 95 %", heads, rows),
    )


def _figures(quality: Interval, cost: Interval | None) -> list[str]:
    told = [shown(value, ".4f") for value in (quality.mean, quality.low, quality.high)]
    if cost is None:
        return [*told, "", "", ""]
    return [*told, *(shown(value * _PER, ".3g") for value in (cost.mean, cost.low, cost.high))]


def _plane(result: Streamed, budget_usd: float) -> Html:
    against, alone = result.against, result.against.alone
    costs = [*(one.cost_usd.mean for one in alone), result.cost_usd.low, result.cost_usd.high, budget_usd]
    x = Axis(f"mean cost, {_USD}, logarithmic", min(costs) * _PER / 1.6, max(costs) * _PER * 1.9, ".3g", log=True)
    mixed = _mixtures(alone)
    ys = [value for one in (result.quality, *(a.quality for a in alone)) for value in (one.low, one.high)]
    marks = [_mark("fixed", one.model, one.quality, one.cost_usd) for one in alone]
    marks.append(_mark("router", "learning router", result.quality, against.cost_usd, above=True))
    return draw(
        Chart(
            "plane",
            "Quality by cost",
            "Mean quality against mean cost for the learning router, each model alone, and the best mixture of models "
            "at each cost. The table has the figures.",
            Frame(x, spanning("mean quality", ys, ".2f")),
            [Line("mixture of models", "random", mixed, 0.5, below=True)],
            marks,
            rules=[Rule(f"budget {budget_usd * _PER:.3g}", x=budget_usd * _PER)],
            note="Up and to the left is better. Bars are 95 % intervals.",
        )
    )


def _mark(kind: str, name: str, quality: Interval, cost: Interval, *, above: bool = False) -> Mark:
    return Mark(
        kind,
        cost.mean * _PER,
        quality.mean,
        name,
        low=quality.low,
        high=quality.high,
        left=cost.low * _PER,
        right=cost.high * _PER,
        above=above,
    )


def _mixtures(alone: Sequence[Alone]) -> list[tuple[float, float]]:
    cost = np.array([one.cost_usd.mean for one in alone])
    quality = np.array([one.quality.mean for one in alone])
    steps = np.geomspace(max(float(cost.min()), 1e-12), max(float(cost.max()), 1e-12), _STEPS).tolist()
    return [(usd * _PER, mixture(cost, quality, usd * (1.0 + 1e-9))) for usd in steps]


def course(result: Streamed, models: Sequence[str], happenings: Sequence[Happening]) -> Html:
    """Which models were chosen when: a stacked area of shares by fifty requests."""
    count = len(result.shares_by_50)
    areas, floor = list[Area](), [0.0] * count
    for index, model in enumerate(models):
        shares = [part[model] for part in result.shares_by_50]
        top = [below + share for below, share in zip(floor, shares, strict=True)]
        inside = _inside(model, floor, top, result.rows)
        said = f"{model}: {shown(result.shares[model], '.1%')} of all requests"
        kind = f"stack m{index % _COLOURS}"
        areas.append(Area(kind, _stairs(top, result.rows), _stairs(floor, result.rows), said, inside))
        floor = top
    most = 1.0 + _NAME_ROOM * len(happenings)
    frame = Frame(_places(result), Axis("share of requests", 0.0, most, ".0%"), height=380)
    chart = Chart(
        "shares",
        "Which model was chosen, by fifty requests",
        "Shares of the models over the stream, stacked, the first model at the bottom; the table has the figures.",
        frame,
        areas=areas,
        rules=_rules(happenings, result.rows),
        note="Shares are means over the orders. Upright lines are what was done to a model, unannounced.",
    )
    names = [
        tag("li", tag("span", class_=f"swatch m{at % _COLOURS}"), f"{model}: {shown(result.shares[model], '.1%')}")
        for at, model in enumerate(models)
    ]
    figures = [
        [f"{at * BIN + 1} to {min((at + 1) * BIN, result.rows)}", *(shown(part[model], ".1%") for model in models)]
        for at, part in enumerate(result.shares_by_50)
    ]
    folded = fold("Shares by fifty requests", table("Shares by fifty requests", ("requests", *models), figures))
    return tag("section", tag("h2", "Shares over time"), draw(chart), tag("ul", *names, class_="legend"), folded)


def over_time(result: Streamed, budget_usd: float, happenings: Sequence[Happening]) -> Html:
    """Quality and cost on the way."""

    def usd(moment: Moment) -> Interval:
        cost = moment.cost_usd
        return Interval(cost.mean * _PER, max(cost.low, 0.0) * _PER, cost.high * _PER)

    budget = budget_usd * _PER
    quality = _course(result, "quality", "mean quality", ".3f", lambda moment: moment.quality, happenings)
    cost = _course(result, "cost", _USD, ".3g", usd, happenings, [Rule(f"budget {budget:.3g}", y=budget)])
    rows = [
        [
            f"{at * BIN + 1} to {min((at + 1) * BIN, result.rows)}",
            shown(m.quality.mean, ".4f"),
            shown(usd(m).mean, ".3g"),
        ]
        for at, m in enumerate(result.by_50)
    ]
    figures = fold("The figures", table("By fifty requests", ("requests", "quality", _USD), rows))
    return tag("section", tag("h2", "Quality and cost over time"), quality, cost, figures)


def _course(
    result: Streamed,
    name: str,
    title: str,
    form: str,
    of: Callable[[Moment], Interval],
    happenings: Sequence[Happening],
    rules: Sequence[Rule] = (),
) -> Html:
    spans = [of(moment) for moment in result.by_50]
    xs = [min(at * BIN + BIN / 2.0, float(result.rows)) for at in range(len(spans))]
    band = Area(
        "band",
        [(x, span.high) for x, span in zip(xs, spans, strict=True)],
        [(x, span.low) for x, span in zip(xs, spans, strict=True)],
    )
    line = Line("", "router", [(x, span.mean) for x, span in zip(xs, spans, strict=True)])
    levels = [rule.y for rule in rules if rule.y is not None]
    y = spanning(title, [*levels, *(value for span in spans for value in (span.low, span.high))], form)
    return draw(
        Chart(
            name,
            f"{title[0].upper()}{title[1:]}, by fifty requests",
            f"{title} of each fifty requests over the stream, mean over the orders. The table has the figures.",
            Frame(_places(result), y, height=280),
            [line],
            areas=[band],
            rules=[*_rules(happenings, result.rows), *rules],
            note="The band is the 95 % interval over the orders." if result.seeds > 1 else "",
        )
    )


def _places(result: Streamed) -> Axis:
    return Axis("requests so far", 0.0, float(result.rows), ".0f")


def _stairs(values: Sequence[float], rows: int) -> list[tuple[float, float]]:
    """Every value from the beginning to the end of its fifty requests."""
    return [(float(min(at * BIN + step, rows)), value) for at, value in enumerate(values) for step in (0, BIN)]


def _inside(model: str, floor: Sequence[float], top: Sequence[float], rows: int) -> tuple[str, float, float] | None:
    """The name, where its band is thickest away from the edges; `None` where it has no room."""
    inner = range(len(top) // 5, len(top) - len(top) // 5)
    at = max(inner, key=lambda n: min(top[k] - floor[k] for k in range(max(n - 1, 0), min(n + 2, len(top)))), default=0)
    if not top or top[at] - floor[at] < _LEAST_NAMED:
        return None
    return model.rsplit("/", 1)[-1], min((at + 0.5) * BIN, float(rows)), (floor[at] + top[at]) / 2.0


def _rules(happenings: Sequence[Happening], rows: int) -> list[Rule]:
    """Where something begins and, unless that is the end of the stream, where it is over."""
    found = []
    for row, one in enumerate(happenings):
        found.append(Rule(one.told(), x=one.begin * rows, row=row))
        if one.end < 1.0:
            found.append(Rule("restored", x=one.end * rows, row=row))
    return found
