"""Charts over two axes as inline SVG. Colours are classes of the page's style, so that they follow light, dark and
print; lines differ in dashes as well as in colour and carry their names. Each chart has a title and a description; its
figures also stand in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from router.cli.report.markup import Html, shown, tag

LEFT, RIGHT, TOP, BOTTOM = 66, 30, 18, 50
_SECOND: Final = 62
"""Room for a second axis on the right."""
_BROAD: Final = 600
"""From this width on a picture is scrolled on a small screen, not shrunk."""
_TICKS: Final = 5
_MOST_DECADE_TICKS: Final = 8
_LETTER: Final = 7.2
"""About the width of a letter at the size of a label."""

Points = Sequence[tuple[float, float]]


class Axis(Struct, frozen=True):
    """What is measured, from where to where, and how a tick is written; `log` needs positive ends."""

    title: str
    low: float
    high: float
    form: str = ".2f"
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values on the axis: steps of 1, 2 or 5 times a power of ten."""
        return _decades(self.low, self.high) if self.log else _steps(self.low, self.high)


def _steps(low: float, high: float) -> list[float]:
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(found) <= _MOST_DECADE_TICKS:
            break
    return found


class Line(Struct, frozen=True):
    """A named line; `kind` is its class. The name is written `at` a share of its points, above or below them."""

    name: str
    kind: str
    points: Points
    at: float | None = None
    below: bool = False


class Area(Struct, frozen=True):
    """The space between two lines; `inside` is written in its middle, `said` is shown on hover."""

    kind: str
    upper: Points
    lower: Points
    said: str = ""
    inside: tuple[str, float, float] | None = None


class Mark(Struct, frozen=True):
    """A dot; `said` is written beside it where `written`, else shown on hover. `low` and `high` draw an interval up and
    down, `left` and `right` one across; `above` writes over the dot, not under it; `drop` leads down to the axis."""

    kind: str
    x: float
    y: float
    said: str
    written: bool = True
    low: float | None = None
    high: float | None = None
    left: float | None = None
    right: float | None = None
    above: bool = False
    drop: bool = False


class Rule(Struct, frozen=True):
    """A named line across the whole picture, upright at `x` or level at `y`; `row` keeps names on top apart."""

    name: str
    x: float | None = None
    y: float | None = None
    row: int = 0


class Frame(Struct, frozen=True):
    """Axes and where a value lies between them; `second` measures the same height on the right."""

    x: Axis
    y: Axis
    second: Axis | None = None
    width: int = 920
    height: int = 420

    @property
    def end(self) -> float:
        """The right edge of what is drawn on."""
        return float(self.width - (RIGHT if self.second is None else _SECOND))

    @property
    def floor(self) -> float:
        """The lower edge."""
        return float(self.height - BOTTOM)

    def across(self, value: float) -> float:
        """Horizontal place of a value."""
        return LEFT + self.x.place(value) * (self.end - LEFT)

    def up(self, value: float) -> float:
        """Vertical place of a value."""
        return self.floor - self.y.place(value) * (self.floor - TOP)


def spanning(title: str, values: Sequence[float], form: str = ".2f") -> Axis:
    """An axis that holds all values with a little air."""
    low, high = min(values), max(values)
    air = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(title, low - air, high + air, form)


class Chart(Struct, frozen=True):
    """What is drawn, from the back to the front. `name` is unique on the page; `told` says in words what the picture
    shows; `note` stands under the title."""

    name: str
    title: str
    told: str
    frame: Frame
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    areas: Sequence[Area] = ()
    rules: Sequence[Rule] = ()
    note: str = ""


def draw(chart: Chart) -> Html:
    """The picture under its title."""
    frame = chart.frame
    inside = _grid(frame)
    inside += [part for area in chart.areas for part in _area(frame, area)]
    inside += _axes(frame)
    inside += [part for rule in chart.rules for part in _rule(frame, rule)]
    inside += [_path(frame, line) for line in chart.lines]
    inside += [label for line in chart.lines for label in _named(frame, line)]
    inside += [part for mark in chart.marks for part in _mark(frame, mark)]
    size = (frame.width, frame.height)
    return picture(chart.name, chart.title, chart.told, size, inside, note=chart.note)


def picture(name: str, title: str, told: str, size: tuple[int, int], inside: Sequence[Html], *, note: str = "") -> Html:
    """SVG in a figure, named by its title and description."""
    heads = (tag("title", title, id=f"{name}-title"), tag("desc", told, id=f"{name}-told"))
    box = f"0 0 {size[0]} {size[1]}"
    labels = f"{name}-title {name}-told"
    drawn = tag("svg", *heads, *inside, viewBox=box, role="img", aria_labelledby=labels)
    under = [tag("span", note)] if note else []
    kind = "chart broad" if size[0] > _BROAD else "chart"
    return tag("figure", tag("figcaption", title, *under), tag("div", drawn, class_=kind, tabindex="0"))


def _grid(frame: Frame) -> list[Html]:
    ys = [frame.up(value) for value in frame.y.ticks()]
    return [tag("line", class_="grid", x1=float(LEFT), y1=y, x2=frame.end, y2=y) for y in ys]


def _axes(frame: Frame) -> list[Html]:
    floor, end = frame.floor, frame.end
    parts = []
    for value in frame.y.ticks():
        told = shown(value, frame.y.form)
        parts.append(tag("text", told, class_="tick", x=LEFT - 9.0, y=frame.up(value) + 4.0, text_anchor="end"))
    for value in frame.x.ticks():
        x = frame.across(value)
        parts.append(tag("line", class_="axis", x1=x, y1=floor, x2=x, y2=floor + 5.0))
        parts.append(tag("text", shown(value, frame.x.form), class_="tick", x=x, y=floor + 19.0, text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=float(LEFT), y1=floor, x2=end, y2=floor))
    title = tag(
        "text", frame.x.title, class_="axis-title", x=(LEFT + end) / 2.0, y=frame.height - 8.0, text_anchor="middle"
    )
    parts += [title, _upright(frame, frame.y.title, 14.0)]
    if frame.second is not None:
        for value in frame.second.ticks():
            y = floor - frame.second.place(value) * (floor - TOP)
            parts.append(tag("text", shown(value, frame.second.form), class_="tick", x=end + 8.0, y=y + 4.0))
        parts.append(_upright(frame, frame.second.title, frame.width - 6.0))
    return parts


def _upright(frame: Frame, title: str, x: float) -> Html:
    middle = (TOP + frame.floor) / 2.0
    turned = f"rotate(-90 {x:.1f} {middle:.1f})"
    return tag("text", title, class_="axis-title", x=x, y=middle, text_anchor="middle", transform=turned)


def _places(frame: Frame, points: Points) -> list[str]:
    return [f"{frame.across(x):.1f} {frame.up(y):.1f}" for x, y in points]


def _path(frame: Frame, line: Line) -> Html:
    return tag("path", class_=f"line {line.kind}", d="M" + "L".join(_places(frame, line.points)))


def _named(frame: Frame, line: Line) -> list[Html]:
    if line.at is None:
        return []
    x, y = line.points[round(line.at * (len(line.points) - 1))]
    aside, lift, anchor = (10.0, 18.0, "start") if line.below else (-8.0, -8.0, "end")
    place = {"x": frame.across(x) + aside, "y": frame.up(y) + lift}
    return [tag("text", line.name, class_=f"halo {line.kind}", text_anchor=anchor, **place)]


def _area(frame: Frame, area: Area) -> list[Html]:
    outline = "M" + "L".join(_places(frame, [*area.upper, *reversed(area.lower)])) + "Z"
    hover = [tag("title", area.said)] if area.said else []
    parts = [tag("path", *hover, class_=f"area {area.kind}", d=outline)]
    if area.inside is not None:
        text, x, y = area.inside
        place = {"x": frame.across(x), "y": frame.up(y) + 4.0}
        parts.append(tag("text", text, class_="inside", text_anchor="middle", **place))
    return parts


def _rule(frame: Frame, rule: Rule) -> list[Html]:
    if rule.x is not None:
        x, top = frame.across(rule.x), TOP + 13.0 + 17.0 * rule.row
        drawn = tag("line", class_="rule", x1=x, x2=x, y1=float(TOP), y2=frame.floor)
        past = x + 6.0 + _LETTER * len(rule.name) > frame.end
        return [drawn, _label(rule.name, "fixed", x + (-6.0 if past else 6.0), top, "end" if past else "start")]
    y = frame.up(rule.y or 0.0)
    drawn = tag("line", class_="rule", x1=float(LEFT), x2=frame.end, y1=y, y2=y)
    return [drawn, _label(rule.name, "fixed", LEFT + 6.0, y - 6.0, "start")]


def _label(text: str, kind: str, x: float, y: float, anchor: str) -> Html:
    return tag("text", text, class_=f"halo {kind}", x=x, y=y, text_anchor=anchor)


def _mark(frame: Frame, mark: Mark) -> list[Html]:
    x, y = frame.across(mark.x), frame.up(mark.y)
    parts = []
    if mark.drop:
        parts.append(tag("line", class_="drop", x1=x, x2=x, y1=y, y2=frame.floor))
    if mark.low is not None and mark.high is not None:
        ends = {"y1": frame.up(mark.low), "y2": frame.up(mark.high)}
        parts.append(tag("line", class_="whisker", x1=x, x2=x, **ends))
    if mark.left is not None and mark.right is not None:
        sides = {"x1": frame.across(mark.left), "x2": frame.across(mark.right)}
        parts.append(tag("line", class_="whisker", y1=y, y2=y, **sides))
    parts.append(tag("circle", tag("title", mark.said), class_=f"mark {mark.kind}", cx=x, cy=y, r=5.0))
    if mark.written:
        past = x + 9.0 + _LETTER * len(mark.said) > frame.width
        parts.append(
            _label(
                mark.said,
                "said",
                x + (-9.0 if past else 9.0),
                y + (-9.0 if mark.above or past else 17.0),
                "end" if past else "start",
            )
        )
    return parts
