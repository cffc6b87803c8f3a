"""Bars and small pictures in the cells of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from router.cli.report.charts import picture
from router.cli.report.markup import Html, tag

_WIDTH: Final = 920
_STEP: Final = 28
_LEFT: Final = 290
_RIGHT: Final = 80
_CELL: Final = 132
_CELL_HEIGHT: Final = 18


class Bar(Struct, frozen=True):
    """A named value and the interval it may lie in."""

    name: str
    value: float
    low: float
    high: float


def bar_chart(name: str, title: str, told: str, bars: Sequence[Bar], *, note: str = "") -> Html:
    """Horizontal bars from zero with their intervals, named left, valued right."""
    low, high = min(0.0, *(bar.low for bar in bars)), max(0.0, *(bar.high for bar in bars))
    scale = (_WIDTH - _LEFT - _RIGHT) / ((high - low) or 1.0)
    zero = _LEFT - low * scale
    height = 12 + len(bars) * _STEP
    inside = [tag("line", class_="axis", x1=zero, y1=2.0, x2=zero, y2=height - 4.0)]
    for index, bar in enumerate(bars):
        top = 6.0 + index * _STEP
        x, width = zero + min(bar.value, 0.0) * scale, abs(bar.value) * scale
        kind = "bar down" if bar.value < 0.0 else "bar"
        inside.append(tag("text", bar.name, x=_LEFT - 14.0, y=top + 14.0, text_anchor="end"))
        inside.append(tag("rect", class_=kind, x=x, y=top, width=max(width, 0.5), height=19.0, rx=2.0))
        ends = {"x1": zero + bar.low * scale, "x2": zero + bar.high * scale}
        inside.append(tag("line", class_="whisker", y1=top + 9.5, y2=top + 9.5, **ends))
        right = zero + max(bar.value, bar.high, 0.0) * scale
        inside.append(tag("text", f"{bar.value:+.4f}", x=right + 8.0, y=top + 14.0))
    return picture(name, title, told, (_WIDTH, height), inside, note=note)


def whisker(value: float, low: float, high: float, ends: tuple[float, float], middle: float) -> Html:
    """A dot with its interval between two ends, and an upright line at `middle`; for the cell of a table."""

    def across(at: float) -> float:
        inside = (min(max(at, ends[0]), ends[1]) - ends[0]) / (ends[1] - ends[0])
        return 5.0 + inside * (_CELL - 10.0)

    y = _CELL_HEIGHT / 2.0
    level = tag("line", class_="axis", x1=across(middle), x2=across(middle), y1=0.0, y2=float(_CELL_HEIGHT))
    span = tag("line", class_="whisker", x1=across(low), x2=across(high), y1=y, y2=y)
    kind = "router" if value >= middle else "fixed"
    return _cell(level, span, tag("circle", class_=f"mark {kind}", cx=across(value), cy=y, r=4.5))


def swing(value: float, most: float) -> Html:
    """A bar to the left or right of the middle, `most` being its full length; for the cell of a table."""
    middle = _CELL / 2.0
    width = abs(value) / (most or 1.0) * (middle - 4.0)
    x = middle if value >= 0.0 else middle - width
    kind = "bar" if value >= 0.0 else "bar down"
    level = tag("line", class_="axis", x1=middle, x2=middle, y1=0.0, y2=float(_CELL_HEIGHT))
    return _cell(tag("rect", class_=kind, x=x, y=4.0, width=max(width, 0.5), height=10.0, rx=1.5), level)


def _cell(*inside: Html) -> Html:
    box = f"0 0 {_CELL} {_CELL_HEIGHT}"
    size = {"width": float(_CELL), "height": float(_CELL_HEIGHT)}
    return tag("svg", *inside, class_="mini", viewBox=box, aria_hidden="true", **size)
