"""One advice with all that it came from, as the view, the page and the plan tell it."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from router.cli.capacity.terms import Priced
from router.sim.capacity.advice import Advice, Terms
from router.sim.capacity.calls import Read
from router.sim.capacity.days import WEEK, Weekday
from router.sim.capacity.minutes import Minutes

HOURS_A_MONTH = 730.0


class Demand(Struct, frozen=True):
    """The record in figures: from when to when (UTC), whole minutes, calls, tokens a minute, and the share of the
    on-demand money in minutes that output tokens bind."""

    kind: str
    name: str
    sha256: str
    begins: str
    ends: str
    minutes: int
    calls: int
    input_tokens_per_min: float
    output_tokens_per_min: float
    output_bound_ratio: float


class Told(Struct, frozen=True):
    """Everything; `date` and `command` are printed as they are."""

    model: str
    priced: Priced
    terms: Terms
    scale: float
    timezone: str
    demand: Demand
    advice: Advice
    notes: tuple[str, ...]
    date: str
    command: str


def demand_of(read: Read, minutes: Minutes) -> Demand:
    """The figures of a record."""
    given, made = minutes.tokens
    return Demand(
        kind=read.kind,
        name=read.name,
        sha256=read.calls.digest,
        begins=_at(minutes.first),
        ends=_at(minutes.first + minutes.count),
        minutes=minutes.count,
        calls=minutes.calls,
        input_tokens_per_min=given,
        output_tokens_per_min=made,
        output_bound_ratio=minutes.output_bound_ratio(),
    )


def days_said(days: tuple[Weekday, ...]) -> str:
    """Days of the week in words."""
    if days == WEEK:
        return "every day"
    return days[0].value if len(days) == 1 else f"{days[0]}-{days[-1]}" if _in_a_row(days) else ", ".join(days)


def hours_said(start: int, end: int) -> str:
    """Hours of a day in words."""
    return "all hours" if (start, end) == (0, 24) else f"{start:02}:00-{end:02}:00"


def _in_a_row(days: tuple[Weekday, ...]) -> bool:
    first = WEEK.index(days[0])
    return days == WEEK[first : first + len(days)]


def _at(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")
