"""Scenarios as tables on a terminal: which there are, what one showed phase by phase, and all of them side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.table import Table

from router.cli.report.markup import shown
from router.sim.scenarios.assessed import Figures
from router.sim.scenarios.play import Told
from router.sim.scenarios.scenario import Scenario

_COLUMNS = ("sent", "useful", "best", "settled", "over", "missed", "flips", "floor", "lost")
_NOTE = (
    "best: useful under the best fixed setting of each phase in hindsight; settled: seconds until within 5 % of it for "
    "good; over: worst p95 over its objective; missed: seconds with p95 over it; flips: turns of limits and shares a "
    "minute; floor: seconds surely under it; lost: useful answers against best"
)
_OTHERS = "; sent is of all, useful, best and lost are of the other tenants than the one that floods"


def listing(scenarios: Iterable[Scenario]) -> Table:
    """What there is to be played."""
    table = Table("scenario", "what it asks", "seconds", caption="all: every one of them")
    for one in scenarios:
        table.add_row(one.name, one.question, f"{one.ends_s:g}")
    return table


def table(told: Told) -> Table:
    """One scenario: its phases and the whole."""
    others = "" if told.ours.watched == told.ours.offered else _OTHERS
    made = _table(f"{told.scenario}: {told.title}", "from", caption=_NOTE + others)
    for phase in told.phases:
        made.add_row(f"{phase.at_s:g} s: {phase.change}", *_cells(phase.figures))
    made.add_section()
    made.add_row("whole", *_cells(told.figures))
    return made


def overview(told: Sequence[Told]) -> Table:
    """All scenarios, a row each."""
    made = _table("All scenarios", "scenario")
    for one in told:
        made.add_row(one.scenario, *_cells(one.figures))
    return made


def _table(title: str, first: str, *, caption: str | None = None) -> Table:
    look = {"box": SIMPLE, "padding": 0, "title_justify": "left", "caption_justify": "left"}
    made = Table(title=title, caption=caption, pad_edge=False, **look)  # type: ignore[arg-type]
    made.add_column(first, overflow="fold", min_width=21)
    for name in _COLUMNS:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def _cells(figures: Figures) -> list[str]:
    return [
        str(figures.offered),
        shown(figures.useful, ".3f"),
        shown(figures.best_useful, ".3f"),
        "never" if figures.settled_s is None else f"{figures.settled_s:g}",
        f"{figures.overshoot_ratio:.0%}",
        f"{figures.violation_s:g}",
        f"{figures.flips_per_min:.1f}",
        f"{figures.floor_breach_s:g}",
        f"{figures.regret:+.0f}",
    ]
