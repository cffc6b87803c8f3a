"""`router catalog [MODEL]`: the catalogue as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.domain.errors import RouterError
from router.learning.variants.catalogue import Entry, Fact, catalogue
from router.learning.variants.effects import EFFECTS, Kind, offered


def table(
    model: Annotated[str | None, typer.Argument(help="Part of a model's id or family; absent: all.")] = None,
    *,
    technique: Annotated[
        list[Kind] | None, typer.Option(help="Only models that take this technique; several: all of them.")
    ] = None,
) -> None:
    """Show which models of JumpStart take which technique.

    `yes`: AWS lists it as supported, by a job; `draft`: SageMaker has a draft model; `own draft`: bring one; `ready`:
    AWS offers it optimised, or compiled for Inferentia2 and Trainium, already; `?`: nothing is said.

    Examples:

        router catalog llama-3

        router catalog --technique quantization --technique compilation
    """
    shipped = catalogue()
    wanted = [e for e in EFFECTS if e.kind in (technique or ())]
    models = [e for e in shipped.find(model or "") if all(offered(e, of) for of in wanted)]
    if not models:
        raise RouterError(f"no model of the catalogue is like {model}" if model else "no model takes all of that")
    Console().print(table_of(models))
    typer.echo(f"{len(models)} of {len(shipped.models)} models, carried over in {shipped.carried_over} from:")
    for source in shipped.sources:
        typer.echo(f"  {source}")


def table_of(models: Sequence[Entry]) -> Table:
    """A row for each."""
    shown = Table("model", "family", "quantised", "speculative", "optimised", "compiled", box=None, pad_edge=False)
    for e in models:
        draft = "draft" if e.says(Fact.DRAFT_MODEL) else "own draft"
        speculative = draft if e.says(Fact.SPECULATIVE_DECODING) else _said(e, Fact.SPECULATIVE_DECODING)
        ready = (_ready(e, Fact.PRE_OPTIMIZED), _ready(e, Fact.PRE_COMPILED))
        shown.add_row(Text(e.id, overflow="fold"), e.family, _said(e, Fact.QUANTIZATION), speculative, *ready)
    return shown


def _said(entry: Entry, fact: Fact) -> str:
    said = entry.says(fact)
    return "?" if said is None else "yes" if said else "no"


def _ready(entry: Entry, fact: Fact) -> str:
    return "ready" if entry.says(fact) else ""
