"""The options of `router evaluate` that have to do with a promise of quality."""

from __future__ import annotations

from typing import Annotated

import typer

_PANEL = "A promise of quality"

FloorLoss = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Promise to lose at most so much mean quality against --large, with 95 % confidence, and see if it holds.",
        rich_help_panel=_PANEL,
    ),
]
Recalibrate = Annotated[
    int, typer.Option(min=1, help="Rows to choose the threshold on; the others are the test.", rich_help_panel=_PANEL)
]
Resplits = Annotated[int, typer.Option(min=1, help="How often the rows are split anew.", rich_help_panel=_PANEL)]
SplitSeed = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed gives the same splits.", rich_help_panel=_PANEL)
]
