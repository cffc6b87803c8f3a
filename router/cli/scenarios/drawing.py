"""Panels that stand over each other on one axis of time, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from msgspec import Struct

from router.cli.report.charts import Axis
from router.cli.report.markup import Html, shown, tag

WIDTH: Final = 1000.0
LEFT: Final = 62.0
RIGHT: Final = 838.0
"""The edge of what is drawn on; names of lines stand to the right of it."""
_NAME_GAP = 14.0

Series = Sequence[float | None]


class Panel(Struct, frozen=True):
    """One picture in the column: `ends_s` are the ends of its axis of time."""

    title: str
    unit: str
    y: Axis
    top: float
    height: float
    ends_s: tuple[float, float]

    @property
    def floor(self) -> float:
        """The lower edge."""
        return self.top + self.height

    def across(self, at_s: float) -> float:
        """Horizontal place of an instant."""
        begin, end = self.ends_s
        return LEFT + (at_s - begin) / (end - begin) * (RIGHT - LEFT)

    def up(self, value: float) -> float:
        """Vertical place of a value; what is off the scale stands at its end."""
        return self.floor - self.y.place(min(max(value, self.y.low), self.y.high)) * self.height


def frame(panel: Panel, *, times: Sequence[float] = ()) -> list[Html]:
    """Title, grid and ticks; times under the lowest panel alone."""
    unit = tag("tspan", f"  {panel.unit}", class_="unit")
    parts = [tag("text", panel.title, unit, class_="panel", x=LEFT, y=panel.top - 8.0)]
    for value in panel.y.ticks():
        y = panel.up(value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y, y2=y))
        told = shown(value, panel.y.form)
        parts.append(tag("text", told, class_="tick", x=LEFT - 8.0, y=y + 4.0, text_anchor="end"))
    parts.append(tag("line", class_="axis", x1=LEFT, x2=RIGHT, y1=panel.floor, y2=panel.floor))
    for at_s in times:
        x = panel.across(at_s)
        parts.append(tag("line", class_="axis", x1=x, x2=x, y1=panel.floor, y2=panel.floor + 5.0))
        parts.append(tag("text", f"{at_s:g}", class_="tick", x=x, y=panel.floor + 18.0, text_anchor="middle"))
    return parts


def line(panel: Panel, kind: str, xs: Sequence[float], ys: Series) -> Html:
    """A line that breaks where there is nothing to tell."""
    drawn = "".join("M" + "L".join(_place(panel, x, y) for x, y in run) for run in _runs(xs, ys))
    return tag("path", class_=f"line {kind}", d=drawn)


def steps(panel: Panel, kind: str, begins: Sequence[float], ends: Sequence[float], ys: Series) -> Html:
    """A line that stays level from each begin to each end."""
    xs = [x for pair in zip(begins, ends, strict=True) for x in pair]
    return line(panel, kind, xs, [y for y in ys for _ in (0, 1)])


def area(panel: Panel, kind: str, xs: Sequence[float], upper: Series, lower: Series, *, said: str = "") -> Html:
    """The space between two series."""
    drawn = ""
    pairs = [None if u is None or w is None else (u, w) for u, w in zip(upper, lower, strict=True)]
    told = zip(xs, pairs, strict=True)
    for known, run in groupby(told, key=lambda one: one[1] is not None):
        if known:
            points = [(x, *pair) for x, pair in run if pair is not None]
            above = [_place(panel, x, u) for x, u, _ in points]
            below = [_place(panel, x, w) for x, _, w in reversed(points)]
            drawn += "M" + "L".join([*above, *below]) + "Z"
    return tag("path", *([tag("title", said)] if said else []), class_=f"area {kind}", d=drawn)


def names(panel: Panel, told: Iterable[tuple[str, str, float]]) -> list[Html]:
    """Names (text, kind, value) to the right of their lines, moved apart where they would lie on each other."""
    ordered = sorted(told, key=lambda one: panel.up(one[2]))
    ys = apart([panel.up(value) for _, _, value in ordered], _NAME_GAP, panel.floor)
    return [
        tag("text", text, class_=f"name {kind}", x=RIGHT + 10.0, y=y + 4.0)
        for (text, kind, _), y in zip(ordered, ys, strict=True)
    ]


def apart(ys: Sequence[float], gap: float, most: float) -> list[float]:
    """Ascending places pushed down until none is nearer to the last than `gap`, then up from `most`."""
    placed: list[float] = []
    for y in ys:
        placed.append(y if not placed else max(y, placed[-1] + gap))
    for index in range(len(placed) - 1, -1, -1):
        bound = most if index == len(placed) - 1 else placed[index + 1] - gap
        placed[index] = min(placed[index], bound)
    return placed


def _runs(xs: Sequence[float], ys: Series) -> Iterator[list[tuple[float, float]]]:
    for known, run in groupby(zip(xs, ys, strict=True), key=lambda one: one[1] is not None):
        if known:
            yield [(x, y) for x, y in run if y is not None]


def _place(panel: Panel, x: float, y: float) -> str:
    return f"{panel.across(x):.1f} {panel.up(y):.1f}"


def last(values: Series) -> float | None:
    """The last value that is told."""
    return next((value for value in reversed(values) if value is not None), None)
