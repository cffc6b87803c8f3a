"""`router capacity show`: a plan read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.cli.capacity.told import days_said, hours_said
from router.domain.errors import RouterError
from router.sim.capacity.plan import Plan, Purchase, read_plan


def show(plan: Annotated[Path, typer.Argument(metavar="PLAN", help="File that `advise --plan` wrote.")]) -> None:
    """Read a plan, check all of it, and say what it would have bought. Changes nothing.

    What is wrong is told with file, line and column; exit status 2.

    Examples:

        router capacity show plan.yaml
    """
    found, _ = read_file(plan)
    console = Console()
    console.print(_said(found))
    if found.purchases:
        console.print(_purchases(found))
    for note in found.assumptions.notes:
        console.print(Text(f"! {note}", style="yellow"))


def read_file(plan: Path) -> tuple[Plan, str]:
    """A plan and the text it is written in."""
    try:
        text = plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RouterError(f"{plan}: {getattr(error, 'strerror', None) or error}") from None
    return read_plan(str(plan), text), text


def _said(plan: Plan) -> Text:
    saving, cost = plan.expected.saving_ratio, plan.expected.usd_per_hour
    where = "" if plan.region is None else f" in {plan.region}"
    return Text(
        f"{plan.model}{where}, made on {plan.made_on} from {plan.input.kind} {plan.input.name} "
        f"({plan.input.calls:,} calls, {plan.input.begins} to {plan.input.ends}, sha256 {plan.input.sha256[:12]})\n"
        f"Expected: USD {cost.mean:.3f} an hour (95 %: {cost.low:.3f} to {cost.high:.3f}) in place of "
        f"{plan.expected.on_demand_usd_per_hour:.3f}; saves {saving.mean:.1%} ({saving.low:.1%} to {saving.high:.1%})"
        + ("" if plan.purchases else "\nNothing is to be bought: on demand costs least")
    )


def _purchases(plan: Plan) -> Table:
    table = Table("units", "commitment", "USD/h each", f"hours ({plan.timezone})", box=None, pad_edge=False)
    for one in plan.purchases:
        table.add_row(str(one.units), one.commitment, f"{one.hourly_usd:g}", _hours(one))
    return table


def _hours(purchase: Purchase) -> str:
    if not purchase.hours:
        return "all hours"
    return "; ".join(f"{days_said(w.days)} {hours_said(w.start, w.end)}" for w in purchase.hours)
