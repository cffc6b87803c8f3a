"""The options of `router profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_LOAD, _ASKED, _MONEY, _OUT = "Load", "What is asked", "Money", "Output"

Name = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="A deployment of the policy, of any kind but job.")]
Policies = Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")]
Concurrency = Annotated[
    str,
    typer.Option(help="Users at once, level by level; sizes of batches where it takes those.", rich_help_panel=_LOAD),
]
Requests = Annotated[
    int | None,
    typer.Option(min=1, help="Calls a level that count; else four a user, twenty at least.", rich_help_panel=_LOAD),
]
For = Annotated[
    float | None,
    typer.Option("--for", min=0.1, help="Seconds a level, in place of a number of calls.", rich_help_panel=_LOAD),
]
WarmUp = Annotated[
    int,
    typer.Option(min=0, help="Calls each user makes first that are paid but do not count.", rich_help_panel=_LOAD),
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that a call may take.", rich_help_panel=_LOAD)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help='JSON lines of {"prompt": "..."} or {"messages": [...]}, with max_tokens where wanted.',
        rich_help_panel=_ASKED,
    ),
]
InputTokens = Annotated[int, typer.Option(min=1, help="Tokens of made-up prompts, the mean.", rich_help_panel=_ASKED)]
OutputTokens = Annotated[
    int, typer.Option(min=1, help="Bound on answers (max_tokens), the mean.", rich_help_panel=_ASKED)
]
SamePrompt = Annotated[
    bool,
    typer.Option("--same-prompt", help="Always the same, as a warm prompt cache likes it.", rich_help_panel=_ASKED),
]
Seed = Annotated[int, typer.Option(help="Of prompts and their sizes.", rich_help_panel=_ASKED)]
MaxUsd = Annotated[
    float | None,
    typer.Option(min=0.0, help="Stop before a call that could make it dearer than this.", rich_help_panel=_MONEY),
]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write all figures here.", rich_help_panel=_OUT)]
ReportPath = Annotated[
    Path | None, typer.Option("--report", help="Write a page with curves here (HTML).", rich_help_panel=_OUT)
]
Store = Annotated[
    bool,
    typer.Option(
        "--store",
        help="Keep the figures, and the lines for the policy, in the state directory under profiles/.",
        rich_help_panel=_OUT,
    ),
]
