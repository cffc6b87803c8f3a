"""The section on how good the router is: quality over the share sent to large, and over cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from router.cli.report.charts import Area, Axis, Chart, Frame, Line, Mark, draw, spanning
from router.cli.report.markup import Html, kept, shown, table, tag
from router.complexity.assessment.curves import Curve, Tradeoff, tradeoff
from router.complexity.assessment.intervals import GRID, LEVELS, Uncertainty
from router.complexity.assessment.rows import Rows
from router.complexity.evaluate import Array, Scores

_POINTS: Final = 240
"""Points of a drawn curve: finer than a pixel can show."""
_TENTHS: Final = 10
_PER: Final = 1000.0
"""Prompts that a cost is told for."""
_USD: Final = "USD per 1,000 prompts"
_SHARE: Final = Axis("share of prompts sent to large", 0.0, 1.0, ".0%")


def cost_and_quality(rows: Rows, scores: Scores, sure: Uncertainty | None) -> Html:
    """Charts and a table of what the router makes of each share of calls to large."""
    drawn = tradeoff(rows)
    charts = [_recovered(drawn, scores, sure) if scores.apgr is not None else _plain(drawn)]
    if drawn.router.cost is not None:
        charts.append(_plane(drawn, scores))
    else:
        charts.append(tag("p", "Costs are not shown: not every outcome says what it cost.", class_="note"))
    return tag("section", tag("h2", "Cost and quality"), *charts, _operating_points(drawn))


def _recovered(drawn: Tradeoff, scores: Scores, sure: Uncertainty | None) -> Html:
    """PGR by share, mean quality on the right."""
    base, gap = scores.small_mean, scores.large_mean - scores.small_mean
    lines = [
        Line("random mixing", "random", _recovery(drawn.share, drawn.random, base, gap), 0.62, below=True),
        Line("oracle: knows every gain", "oracle", _recovery(drawn.share, drawn.oracle, base, gap), 0.28, below=True),
        Line("router", "router", _recovery(drawn.share, drawn.router, base, gap), 0.23),
    ]
    band = [] if sure is None else [_band(sure)]
    heights = [y for line in lines for _, y in line.points] + [
        y for area in band for _, y in (*area.upper, *area.lower)
    ]
    left = spanning("PGR: share of the gap recovered", heights, ".1f")
    right = Axis("mean quality", base + left.low * gap, base + left.high * gap, ".2f" if gap > 0.05 else ".3f")
    marks = [Mark("fixed", 0.0, 0.0, "always small"), Mark("fixed", 1.0, 1.0, "always large", above=True)]
    for level, cut in zip(LEVELS, (scores.cpt50, scores.cpt80, scores.cpt95), strict=True):
        if cut is not None:
            at = float(_at(drawn.router.quality, cut) - base) / gap
            marks.append(Mark("router", cut / 100.0, at, kept(f"CPT{level * 100:.0f}: {cut:.1f} %"), drop=True))
    return draw(
        Chart(
            "quality",
            f"Quality recovered by the share sent to large: APGR {shown(scores.apgr)}",
            "The share of the quality gap between small and large that is recovered, against the share of prompts sent "
            "to large. The router's curve runs from always small (0) to always large (1), random mixing is the "
            "straight line between them, the oracle knows every gain. The table has the points.",
            Frame(_SHARE, left, right, height=470),
            lines,
            marks,
            band,
            note="APGR is the area under the router's curve. Higher and further left is better."
            + (" The band is the 95 % interval over prompts." if sure is not None else ""),
        )
    )


def _recovery(share: Array, curve: Curve, base: float, gap: float) -> list[tuple[float, float]]:
    return _points(share, (curve.quality - base) / gap)


def _band(sure: Uncertainty) -> Area:
    upper = list(zip(GRID.tolist(), sure.high.tolist(), strict=True))
    return Area("band", upper, list(zip(GRID.tolist(), sure.low.tolist(), strict=True)))


def _plain(drawn: Tradeoff) -> Html:
    """Mean quality by share, where there is no gap to tell a share of."""
    lines = [Line(name, kind, _points(drawn.share, curve.quality), at) for name, kind, curve, at in _curves(drawn)]
    y = spanning("mean quality", [value for line in lines for _, value in line.points], ".3f")
    told = "Mean quality against the share of prompts sent to large, for the router, random mixing and the oracle."
    marks = _ends(drawn.share, drawn.router.quality)
    return draw(Chart("quality", "Mean quality by the share sent to large", told, Frame(_SHARE, y), lines, marks))


def _plane(drawn: Tradeoff, scores: Scores) -> Html:
    lines = []
    for name, kind, curve, at in _curves(drawn):
        assert curve.cost is not None
        lines.append(Line(name, kind, _points(curve.cost * _PER, curve.quality), at, kind == "random"))
    assert drawn.router.cost is not None
    x = spanning(f"mean cost, {_USD}", [value for line in lines for value, _ in line.points], ".3g")
    y = spanning("mean quality", [value for line in lines for _, value in line.points], ".2f")
    marks = _ends(drawn.router.cost * _PER, drawn.router.quality)
    for level, cut in zip(LEVELS, (scores.cpt50, scores.cpt80, scores.cpt95), strict=True):
        if cut is not None:
            cost, quality = _at(drawn.router.cost, cut) * _PER, _at(drawn.router.quality, cut)
            marks.append(Mark("router", cost, quality, f"{shown(level, '.0%')} of the gap: USD {cost:.3g}"))
    return draw(
        Chart(
            "plane",
            "Quality by cost",
            "Mean quality against mean cost of a thousand prompts, for the router, random mixing and the oracle, from "
            "always small to always large. The table has the points.",
            Frame(x, y),
            lines,
            marks,
            note="Up and to the left is better. The ends are the two models alone.",
        )
    )


def _curves(drawn: Tradeoff) -> tuple[tuple[str, str, Curve, float], ...]:
    """Name, class, curve, and where its name is written."""
    return (
        ("random mixing", "random", drawn.random, 0.6),
        ("oracle", "oracle", drawn.oracle, 0.3),
        ("router", "router", drawn.router, 0.22),
    )


def _ends(x: Array, y: Array) -> list[Mark]:
    return [
        Mark("fixed", float(x[0]), float(y[0]), "always small"),
        Mark("fixed", float(x[-1]), float(y[-1]), "always large", above=True),
    ]


def _points(x: Array, y: Array) -> list[tuple[float, float]]:
    last = len(x) - 1
    kept = sorted({round(n * last / _POINTS) for n in range(_POINTS + 1)})
    return [(float(x[n]), float(y[n])) for n in kept]


def _at(curve: Array, percent: float) -> float:
    """The value at the cut where `percent` of the prompts go to large."""
    return float(curve[round(percent / 100.0 * (len(curve) - 1))])


def _operating_points(drawn: Tradeoff) -> Html:
    """The curves at every tenth."""
    quality, cost = drawn.router.quality, drawn.router.cost
    base, gap = float(quality[0]), float(quality[-1] - quality[0])
    heads = ["sent to large", "quality: router", "random", "oracle", "gap recovered"]
    columns: list[tuple[Sequence[float] | Array, str]] = [
        (quality, ".4f"),
        (drawn.random.quality, ".4f"),
        (drawn.oracle.quality, ".4f"),
        ((quality - base) / gap if gap > 0.0 else np.full(len(quality), np.nan), ".1%"),
    ]
    if cost is not None:
        heads += [_USD, "saved against always large"]
        columns += [(cost * _PER, ".3g"), (1.0 - cost / max(float(cost[-1]), 1e-12), ".1%")]
    rows = []
    for percent in (100.0 * n / _TENTHS for n in range(_TENTHS + 1)):
        values = [(_at(np.asarray(column), percent), form) for column, form in columns]
        rows.append([kept(f"{percent:.0f} %"), *(shown(None if np.isnan(v) else v, form) for v, form in values)])
    return table("What each share of calls to large gives", heads, rows)


def cost_at(rows: Rows, percent: float | None) -> tuple[float, float] | None:
    """USD per 1,000 prompts with `percent` of them sent to large, and the share saved against always large; `None`
    where costs, or the percentage, are not known."""
    if rows.cost is None or percent is None:
        return None
    cost = tradeoff(rows).router.cost
    assert cost is not None
    here, most = _at(cost, percent), float(cost[-1])
    return here * _PER, 1.0 - here / most if most > 0.0 else 0.0
