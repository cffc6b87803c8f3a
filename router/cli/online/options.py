"""The options of `router evaluate` that have to do with learning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

_PANEL = "Learning online"

OnlineFlag = Annotated[
    bool,
    typer.Option("--online", help="Send the rows as a stream through the learning router.", rich_help_panel=_PANEL),
]
Models = Annotated[
    str | None, typer.Option(help="Models to choose among, by comma, the smallest first.", rich_help_panel=_PANEL)
]
BudgetUsd = Annotated[
    float | None, typer.Option(help="Mean cost of a request that is not to be exceeded, USD.", rich_help_panel=_PANEL)
]
Seeds = Annotated[int, typer.Option(min=1, help="Orders of the rows.", rich_help_panel=_PANEL)]
PriorPath = Annotated[
    Path | None,
    typer.Option("--prior", help="Artefact to begin with; the shipped one by default.", rich_help_panel=_PANEL),
]
Events = Annotated[
    list[str] | None,
    typer.Option(
        "--event",
        help="A-B:MODEL:cost*=X or A-B:MODEL:quality=X between two fractions of the stream, "
        "as .33-.67:gpt-4:quality=.75; repeatable.",
        rich_help_panel=_PANEL,
    ),
]
LargeShare = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Share of calls to large while learning.", rich_help_panel=_PANEL)
]
Feedbacks = Annotated[
    int | None, typer.Option(min=1, help="Feedbacks before learning is frozen.", rich_help_panel=_PANEL)
]


class Asked(Struct, frozen=True):
    """What was asked of the learning router."""

    models: str | None
    budget_usd: float | None
    seeds: int
    prior: Path | None
    events: tuple[str, ...]
    small: str | None
    large: str | None
    large_share: float | None
    feedbacks: int | None
    json_: Path | None
    report: Path | None
    date: str | None
    command: str
