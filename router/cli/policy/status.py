"""`router policy status`: what is in force, and how rollouts, experiments, budgets and limits stand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from router.domain.errors import RouterError

_TIMEOUT_S = 10.0
_TELLING = 20
"""Requests from which on an interval says something."""


def status(
    *,
    url: Annotated[str, typer.Option(help="Address of the running router.")] = "http://127.0.0.1:8080",
    key: Annotated[
        str | None,
        typer.Option(
            envvar=["ROUTER_ADMIN_KEY", "ROUTER_API_KEY"],
            help="Key, where the router asks for one: an operator's, where it has ROUTER_HTTP__ADMIN_KEYS.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the router tells it.")] = False,
) -> None:
    """Ask a running router which policy is in force, what became of the last edit, and how its rollouts, its
    experiments, its budgets and the limits of its deployments stand.

    router policy status : the router on this machine

    router policy status --url http://router:8080 --json : another one, for another program
    """
    page = _fetch(f"{url.rstrip('/')}/v1/policy", key)
    if as_json:
        typer.echo(page.decode())
        return
    try:
        Console().print(_view(msgspec.json.decode(page)))
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise RouterError(f"{url} answered something else than a router would: {error}") from None


def _fetch(url: str, key: str | None) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise RouterError(f"{url}: an address begins with http:// or https://")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S) as response:  # noqa: S310  # the scheme was looked at
            page: bytes = response.read()
            return page
    except HTTPError as error:
        with error:
            hint = ": give an operator's key with --key or in ROUTER_ADMIN_KEY" if error.code in (401, 403) else ""
            raise RouterError(f"{url} answered {error.code} {error.reason}{hint}") from None
    except (URLError, OSError) as error:
        raise RouterError(f"no router answers at {url}: {getattr(error, 'reason', error)}") from None


def _view(page: dict[str, Any]) -> RenderableType:
    told = page["status"]
    lines: list[RenderableType] = [Text(f"policy {page['in_force']} in force")]
    if page["written"] != page["in_force"]:
        lines.append(Text(f"policy {page['written']} is written: what is not in force yet, or any more, is below"))
    if told["state"] != "in_force":
        lines.append(Text("the last edit was refused:", style="red"))
        lines += [Text(f"  {problem}") for problem in told["problems"]]
    running = {rollout["request_class"] for rollout in page["rollouts"]}
    for ended in told["rollouts"]:
        if ended["request_class"] not in running:
            when = datetime.fromtimestamp(ended["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            lines.append(Text(f"class {ended['request_class']}: {ended['state']} at {when} UTC: {ended['reason']}"))
    for rollout in page["rollouts"]:
        lines += [Text(), *_rollout(rollout)]
    if tuning := page.get("tuning"):
        lines += _tuning(tuning)
    if page["budgets"]:
        lines += [Text(), _budgets(page["budgets"])]
    if page.get("limits"):
        lines += [Text(), _limits(page["limits"])]
    return Group(*lines)


def _rollout(rollout: dict[str, Any]) -> Iterator[RenderableType]:
    share = f" at {rollout['ratio']:.0%}" if rollout["state"] == "canary" else ""
    said = Text.assemble(
        (f"class {rollout['request_class']}", "bold"), f": {rollout['state']}{share}, version ", rollout["version"]
    )
    yield said
    if rollout["reason"]:
        yield Text(f"  {rollout['reason']}")
    if rollout["waits_for"]:
        yield Text(f"  waits: {rollout['waits_for']}")
    if not rollout["sides"]:
        return
    table = Table("side", "requests", "in SLO", "useful", "adequate", "USD per 1,000", "burn rate, 1 h", box=None)
    for side in rollout["sides"]:
        measures = side["measures"]
        burns = ", ".join(f"{name} {rate:.1f}" for name, rate in side["burn_rates"].items())
        shown = (
            _mean(measures[name], scale) for name, scale in (("slo", 1), ("useful", 1), ("quality", 1), ("cost", 1e3))
        )
        table.add_row(side["name"], str(side["requests"]), *shown, burns or "-")
    yield table


def _mean(measure: dict[str, Any], scale: float) -> str:
    """The mean with its interval, which holds however often it is looked at."""
    if not measure["count"]:
        return "-"
    mean = f"{measure['mean'] * scale:.3f}"
    if measure["low"] is None or measure["count"] < _TELLING:
        return mean
    return f"{mean} [{measure['low'] * scale:.3f}, {measure['high'] * scale:.3f}]"


def _limits(limits: dict[str, Any]) -> Table:
    table = Table(Column("limit of", no_wrap=True), "kind", "calls at once", "tokens at once", "in flight", box=None)
    for name, (kind, requests, tokens, in_flight) in limits.items():
        table.add_row(name, kind, f"{requests:.0f}", "-" if tokens is None else f"{tokens:.0f}", str(in_flight))
    return table


def _tuning(tuning: dict[str, Any]) -> Iterator[RenderableType]:
    """Whether limits and prices are held, and what they would be where they are only advised."""
    if tuning["state"] != "free":
        yield Text(f"limits and prices are held for class {tuning['request_class']}: {tuning['reason']}", style="red")
    if tuning["advised"]:
        table = Table("advised only", "", "in force", "advised", box=None)
        for row in tuning["advised"]:
            table.add_row(row["what"], row["subject"], f"{row['in_force']:.4g}", f"{row['advised']:.4g}")
        yield Text()
        yield table


def _budgets(budgets: dict[str, Any]) -> Table:
    table = Table("budget of today", "spent USD", "reserved USD", "limit USD", box=None)
    for name, (spent, reserved, limit) in budgets.items():
        table.add_row(name, f"{spent:.4f}", f"{reserved:.4f}", f"{limit:.4g}")
    return table
