"""`router decisions`: what was decided, why, and what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Annotated

import typer
from msgspec import json as codec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.cli.decision_view import explanation, summary_columns, summary_row, wide_console
from router.domain.decision import Decision
from router.storage.decision_records import (
    AttemptRecord,
    CheckRecord,
    DecisionRecord,
    FeedbackRecord,
    JudgedRecord,
    Logged,
    OutcomeRecord,
    decision_folder,
    follow_records,
    log_files,
    read_decisions,
)

FOLLOWED_MAX = 10_000


def decisions(
    decision_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Explain one decision: its id, or how it begins.")
    ] = None,
    *,
    state: Annotated[Path, typer.Option(envvar="ROUTER_STATE_DIR", help="State directory of the daemon.")] = Path(
        "state"
    ),
    last: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    request_class: Annotated[str | None, typer.Option("--class", help="Only this request class.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Only those sent to this deployment.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing decisions as they end.")] = False,
) -> None:
    """Show what was decided, why, and what came of it.

    router decisions --last 50 : the last fifty, newest at the bottom

    router decisions --class chat : those of one request class

    router decisions 6b1f : one decision in full, by the beginning of its id

    router decisions --json : joined records for another program

    router decisions --follow : as they end
    """
    folder = decision_folder(state)
    console = wide_console()

    def wanted(decision: Decision) -> bool:
        return (
            (decision_id is None or decision.id.startswith(decision_id))
            and (request_class is None or decision.request_class == request_class)
            and (deployment is None or decision.chosen == deployment)
        )

    if follow:
        _follow(console, folder, wanted, as_json=as_json)
        return
    unread: list[str] = []
    found = deque(
        (
            logged
            for logged in read_decisions(log_files(folder), skipped=lambda p, n: unread.append(f"{p}:{n}"))
            if wanted(logged.decision)
        ),
        maxlen=last,
    )
    if unread:
        typer.echo(f"{len(unread)} lines could not be read, the first is {unread[0]}", err=True)
    if not found:
        which = "" if decision_id is None else f" whose id begins with {decision_id}"
        typer.echo(f"no decision{which} found in {folder}", err=True)
        raise typer.Exit(1)
    _show(console, list(found), in_full=decision_id is not None, as_json=as_json)


def _show(console: Console, found: list[Logged], *, in_full: bool, as_json: bool) -> None:
    if as_json:
        for logged in found:
            typer.echo(codec.encode(logged).decode())
    elif in_full and len(found) == 1:
        console.print(explanation(found[0]))
    else:
        table = Table(*summary_columns(), box=None, pad_edge=False)
        table.columns[summary_columns().index("id")].no_wrap = True
        for logged in found:
            table.add_row(*map(Text, summary_row(logged)))
        console.print(table)


def _follow(console: Console, folder: Path, wanted: Callable[[Decision], bool], *, as_json: bool) -> None:
    try:
        for logged in _ended(folder):
            if not wanted(logged.decision):
                continue
            if as_json:
                typer.echo(codec.encode(logged).decode())
            else:
                at = datetime.fromtimestamp(logged.decision.at, UTC).strftime("%H:%M:%S")
                console.print(at, *summary_row(logged)[1:], soft_wrap=True, highlight=False, markup=False)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _ended(folder: Path) -> Iterator[Logged]:
    """Decisions as their outcomes come; those whose outcome never comes are forgotten, oldest first."""
    open_decisions: dict[str, tuple[Decision, list[AttemptRecord]]] = {}
    for record in follow_records(folder, wait=lambda: sleep(0.3)):
        match record:
            case DecisionRecord(decision=decision):
                open_decisions[decision.id] = (decision, [])
                if len(open_decisions) > FOLLOWED_MAX:
                    del open_decisions[next(iter(open_decisions))]
            case AttemptRecord() if record.decision_id in open_decisions:
                open_decisions[record.decision_id][1].append(record)
            case OutcomeRecord() if record.decision_id in open_decisions:
                decision, attempts = open_decisions.pop(record.decision_id)
                yield Logged(decision, tuple(attempts), record)
            case AttemptRecord() | OutcomeRecord() | FeedbackRecord() | CheckRecord() | JudgedRecord():
                continue
