"""A line of the table, and how figures are written in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """`figures` are what `gained` says, as numbers: seconds end in `_s`, dollars in `_usd`, shares in `_ratio`."""

    claimed: str
    double: str
    gained: str
    figures: Mapping[str, float]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"


def less(before: float, after: float) -> str:
    return f"{(after / before - 1.0) * 100.0:+.0f} %"
