"""Elements of HTML and SVG as values: what is not markup is escaped, so that no prompt can become part of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Final

_VOID: Final = frozenset(("meta", "wbr"))
_BREAKS: Final = re.compile(r"(?<=[/_.:-])(?=\w)")
_KEPT: Final = "\n\N{NO-BREAK SPACE}"
_UNSEEN: Final = "\N{REPLACEMENT CHARACTER}"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def join(*parts: str) -> Html:
    """Parts one after another; plain text is escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(seen(part)) for part in parts))


def seen(text: str) -> str:
    """Text as a reader sees it: characters that are invisible, or that reorder their neighbours, are replaced; line
    ends and spaces that do not break stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else " " if char.isspace() else _UNSEEN for char in text)


def tag(name: str, /, *inside: str, **attributes: str | float) -> Html:
    """An element. `class_` stands for `class`, `aria_label` for `aria-label`; numbers are coordinates, to a tenth."""
    said = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{said}>") if name in _VOID else Html(f"<{name}{said}>{join(*inside)}</{name}>")


def _value(value: str | float) -> str:
    return escape(seen(value)) if isinstance(value, str) else f"{value:.1f}"


def breakable(name: str) -> Html:
    """A long name that may break after a slash, an underscore, a point, a colon or a dash."""
    first, *rest = _BREAKS.split(name)
    return join(first, *(part for piece in rest for part in (tag("wbr"), piece)))


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, last: bool = False) -> Html:
    """A table whose first column names the row; the others are figures. `last` sets the last row apart as a sum."""
    top = tag("tr", *(tag("th", head, scope="col") for head in heads))
    body = [_row(row) for row in rows]
    foot = [tag("tfoot", body.pop())] if last else []
    inside = (tag("caption", caption), tag("thead", top), tag("tbody", *body), *foot)
    return tag("div", tag("table", *inside), class_="wide", tabindex="0", role="region", aria_label=caption)


def _row(row: Sequence[str]) -> Html:
    return tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))


def fold(summary: str, *inside: str) -> Html:
    """What is there for whoever opens it."""
    return tag("details", tag("summary", summary), *inside)


def cards(told: Sequence[tuple[str, str, str]]) -> Html:
    """Headline figures: a name, the figure, a note."""
    each = (
        tag("div", tag("dt", kept(name)), tag("dd", figure, class_="big"), tag("dd", kept(note), class_="note"))
        for name, figure, note in told
    )
    return tag("dl", *each, class_="cards")


def facts(told: Sequence[tuple[str, str]]) -> Html:
    """Names and what they stand for, one a line."""
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in told), class_="facts")


def warning(*inside: str) -> Html:
    """What a reader must know before believing the figures."""
    return tag("p", *inside, class_="warn", role="note")


def shown(figure: float | None, form: str = ".3f") -> str:
    """A figure, or a dash where there is none. A percent sign stands apart from its figure."""
    return "–" if figure is None else f"{figure:{form}}".replace("%", "\N{NO-BREAK SPACE}%")


def kept(text: str) -> str:
    """Text in which no line ends before a percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
