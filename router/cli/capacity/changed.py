"""What carrying out a plan would change, on a terminal."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.backends.aws.control.provisioned import Provisioned
from router.sim.capacity.changes import HOURS_A_MONTH, Changes


def changes_view(todo: Changes, model: str, at: datetime) -> RenderableType:
    """A row for each change, and what it costs."""
    head = Text(f"{model}, as of {at:%a %Y-%m-%d %H:%M} {at.tzname()}")
    if todo.is_empty:
        return Group(head, Text("Nothing to do: what the plan holds now is there."), *_left(todo))
    table = Table("", "units", "commitment", "USD/h", "USD for the term", "name", box=None, pad_edge=False)
    for one in todo.creations:
        term = (
            f"{one.hourly_usd * HOURS_A_MONTH:,.0f} a month" if one.term_usd is None else f"{one.term_usd:,.0f} in all"
        )
        units = str(one.order.units)
        table.add_row(
            Text("buy", style="green"), units, one.commitment.value, f"{one.hourly_usd:,.2f}", term, one.order.name
        )
    for gone in todo.deletions:
        table.add_row(Text("give back", style="red"), *_row(gone))
    for kept in todo.kept:
        table.add_row(Text("keep"), *_row(kept))
    return Group(head, table, *_left(todo))


def _row(one: Provisioned) -> tuple[str, ...]:
    return str(one.units), one.commitment or "none", "", "", one.name


def _left(todo: Changes) -> list[Text]:
    return [
        Text(f"! {one.name} ({one.units} units) is more than the plan holds, and stays: {_why(one)}", style="yellow")
        for one in todo.left
    ]


def _why(one: Provisioned) -> str:
    return "its commitment is not over" if one.commitment else "no plan bought it, or it is more than is too many"
