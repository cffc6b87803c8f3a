"""The options of `router capacity advise`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from router.sim.capacity.days import Pattern

_DEMAND, _PRICES, _BUYING, _OUT = "Demand", "Unit and prices", "What may be bought", "Output"
_RATE = 1e-9

Log = Annotated[
    Path | None,
    typer.Option(help="Decision log: the daemon's state directory, or one file of it.", rich_help_panel=_DEMAND),
]
Trace = Annotated[
    Path | None,
    typer.Option(help="Workload file in place of a log: CSV or JSON lines, plain or gzipped.", rich_help_panel=_DEMAND),
]
Model = Annotated[
    str | None,
    typer.Option(help="Model that the units would serve; else that of the deployment.", rich_help_panel=_DEMAND),
]
Scale = Annotated[
    float,
    typer.Option(
        min=1e-6, help="Multiply the calls: growth, or the share that goes to this model.", rich_help_panel=_DEMAND
    ),
]
Starts = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
        help="When second 0 of the trace was, in --timezone; else a Monday at midnight.",
        rich_help_panel=_DEMAND,
    ),
]
Zone = Annotated[
    str, typer.Option("--timezone", help="Whose hours are meant, such as Europe/Berlin.", rich_help_panel=_DEMAND)
]
Policies = Annotated[
    Path | None,
    typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.", rich_help_panel=_PRICES),
]
DeploymentName = Annotated[
    str | None,
    typer.Option("--deployment", help="Provisioned deployment that tells the unit.", rich_help_panel=_PRICES),
]
DeploymentUnits = Annotated[
    int, typer.Option(min=1, help="Units that this deployment holds now.", rich_help_panel=_PRICES)
]
UnitInput = Annotated[
    float | None,
    typer.Option(min=_RATE, help="Input tokens a minute of one unit.", rich_help_panel=_PRICES),
]
UnitOutput = Annotated[
    float | None,
    typer.Option(min=_RATE, help="Output tokens a minute of one unit.", rich_help_panel=_PRICES),
]
Hourly = Annotated[
    float | None,
    typer.Option(min=0.0, help="USD an hour of a unit without commitment.", rich_help_panel=_PRICES),
]
HourlyMonth = Annotated[
    float | None,
    typer.Option("--hourly-usd-1m", min=0.0, help="The same, committed for one month.", rich_help_panel=_PRICES),
]
HourlySixMonths = Annotated[
    float | None,
    typer.Option("--hourly-usd-6m", min=0.0, help="The same, committed for six months.", rich_help_panel=_PRICES),
]
InputPrice = Annotated[
    float | None,
    typer.Option("--on-demand-input", min=0.0, help="USD per million input tokens.", rich_help_panel=_PRICES),
]
OutputPrice = Annotated[
    float | None,
    typer.Option("--on-demand-output", min=0.0, help="USD per million output tokens.", rich_help_panel=_PRICES),
]
Lot = Annotated[int, typer.Option(min=1, help="Units are bought so many at a time.", rich_help_panel=_BUYING)]
Schedule = Annotated[
    Pattern | None,
    typer.Option(
        help="Which hours may differ: flat, each day alike, or working days and weekends apart; else the finest that "
        "the record can say anything of. Only units without commitment come and go.",
        rich_help_panel=_BUYING,
    ),
]
Blocks = Annotated[
    int, typer.Option(min=1, max=24, help="Most blocks of hours that a day is cut into.", rich_help_panel=_BUYING)
]
PlanPath = Annotated[Path | None, typer.Option("--plan", help="Write what to buy here (YAML).", rich_help_panel=_OUT)]
ReportPath = Annotated[
    Path | None, typer.Option("--report", help="Write one HTML page here, which stands alone.", rich_help_panel=_OUT)
]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write all figures here.", rich_help_panel=_OUT)]
MadeOn = Annotated[
    str | None,
    typer.Option(
        "--date",
        help="Date on plan and page; today's (UTC) by default.",
        show_default=False,
        rich_help_panel=_OUT,
    ),
]
