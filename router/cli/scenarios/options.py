"""The options of `router simulate` that have to do with scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Scenarios"

ScenarioName = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="Play a change and measure how it is followed, against the best fixed setting in hindsight: a name, "
        "`list` or `all`. It brings its own requests, fleet and policy.",
        rich_help_panel=_PANEL,
    ),
]
TracePath = Annotated[
    Path | None,
    typer.Option("--workload", help="Requests of this trace in place of the scenario's own.", rich_help_panel=_PANEL),
]
PicturePath = Annotated[
    Path | None,
    typer.Option("--picture", help="Draw it (SVG); with `--scenario all` a directory.", rich_help_panel=_PANEL),
]
