"""The options of `router evaluate` that have to do with the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Report page"

ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Write one HTML page here, which stands alone: cost and quality, calibration, sources, features, worst "
        "misses. With `--online`: quality and cost against the models alone, shares over time, events.",
        rich_help_panel=_PANEL,
    ),
]
NoExamples = Annotated[
    bool,
    typer.Option("--no-examples", help="Leave prompts out of the page: they may be private.", rich_help_panel=_PANEL),
]
ReportDate = Annotated[
    str | None,
    typer.Option(
        "--date", help="Date on the page; today's (UTC) by default.", show_default=False, rich_help_panel=_PANEL
    ),
]
