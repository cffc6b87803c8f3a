"""`router policy history`: who changed what, when and why."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated

import typer
from msgspec import json as codec
from pydantic_core import PydanticCustomError
from rich.table import Table
from rich.text import Text

from router.cli.decision_view import wide_console
from router.policy.schema.values import read_duration
from router.storage.history_entries import OFTEN, Entry, Kind, history_file, read_history

DETAILS_SHOWN = 8


def history(
    *,
    state: Annotated[Path, typer.Option(envvar="ROUTER_STATE_DIR", help="State directory of the daemon.")] = Path(
        "state"
    ),
    last: Annotated[int, typer.Option(min=1, help="How many to show.")] = 50,
    what: Annotated[list[Kind] | None, typer.Option(help="Only changes of this kind; may be given again.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the limits, prices and ceilings that the controller moves all the time.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="Only those of the last while, such as 30m, 2h or 7d.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who changed what, when and why: edits of the policy, taken up or refused, the steps of their rollouts, and
    budgets; with --all every limit, price and learned ceiling that the controller moved. The newest is at the bottom.

    router policy history --last 20 : the last twenty changes

    router policy history --what policy --what rollout : what people edited, and how it came into force

    router policy history --since 2h --what limit : limits that moved in the last two hours

    router policy history --json : for another program
    """
    path = history_file(state)
    kinds = frozenset(what or (Kind if everything else set(Kind) - OFTEN))
    after = 0.0 if since is None else time() - _seconds(since)
    unread: list[int] = []
    found = deque(
        (e for e in read_history(path, skipped=unread.append) if e.what in kinds and e.at >= after), maxlen=last
    )
    if unread:
        typer.echo(f"{len(unread)} lines could not be read, the first is {path}:{unread[0]}", err=True)
    if not found:
        typer.echo(f"no such change found in {path}", err=True)
        raise typer.Exit(1)
    if as_json:
        for entry in found:
            typer.echo(codec.encode(entry).decode())
    else:
        wide_console().print(_table(found))


def _seconds(since: str) -> float:
    try:
        return read_duration(since)
    except PydanticCustomError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def _table(entries: deque[Entry]) -> Table:
    table = Table("when (UTC)", "what", "who", "subject", "change", "why", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for entry in entries:
        when = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, entry.what, *map(Text, (_who(entry), entry.subject, _change(entry), entry.why)))
    return table


def _who(entry: Entry) -> str:
    """Author and commit where they are known."""
    if entry.commit is None:
        return entry.who
    if entry.edited:
        return f"uncommitted,\non top of {entry.commit[:10]}"
    return f"{entry.author or entry.who}\n{entry.commit[:10]}"


def _change(entry: Entry) -> str:
    values = [_value(v) for v in (entry.old, entry.new) if v is not None]
    lines = [" ".join(part for part in (entry.state, entry.field, " -> ".join(values)) if part)]
    if entry.files:
        lines.append(f"in {', '.join(entry.files)}")
    lines += entry.details[:DETAILS_SHOWN]
    if len(entry.details) > DETAILS_SHOWN:
        lines.append(f"and {len(entry.details) - DETAILS_SHOWN} more")
    return "\n".join(lines)


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
