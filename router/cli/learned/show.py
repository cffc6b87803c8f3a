"""`router learned show`: what is known, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from router.cli.decision_view import wide_console
from router.cli.learned.places import Key, State, Url, place
from router.core.learned.account import Account, OfDeployment, OfModel, Quality
from router.core.learned.lineage import Lineage
from router.domain.errors import RouterError

_STEPS_SHOWN = 5


def show(
    *,
    url: Url = None,
    state: State = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show what was learned: what is believed of each model and how surely, how long its answers are, how fast each
    deployment is, what promises cost; where it comes from; and what is frozen.

    Examples:

        router learned show

        router learned show --url http://router:8080 --json

        router learned show --state /var/lib/router
    """
    page = place(url, state, key).page()
    if as_json:
        typer.echo(page.decode())
        return
    try:
        wide_console().print(view(msgspec.json.decode(page, type=Account)))
    except msgspec.DecodeError as error:
        raise RouterError(f"that is not what a router of this version tells: {error}") from None


def view(known: Account) -> RenderableType:
    """The tables."""
    parts: list[RenderableType] = [*_origin(known.lineage)]
    if known.frozen:
        parts.append(Text(f"frozen, nothing is learned of: {', '.join(known.frozen)}", style="yellow"))
    if known.unheard:
        parts.append(Text(f"drifted, nothing is learned from: {', '.join(known.unheard)}", style="yellow"))
    if not known.models and not known.deployments:
        parts.append(Text("nothing was learned yet"))
    tables = (_qualities, _kinds, _lengths, _checks, _deployments, _floors)
    for table in (made(known) for made in tables):
        if table.row_count:
            parts += [Text(), table]
    return Group(*parts)


def _origin(lineage: Lineage | None) -> Iterator[Text]:
    if lineage is None:
        yield Text("written by an older router: where it comes from is not known")
        return
    seen = lineage.seen
    yield Text(
        f"checkpoint {lineage.id}, after {lineage.parent or 'nothing'}: {_when(lineage.created_at)}, router "
        f"{lineage.router}, policy {lineage.policy}"
    )
    yield Text(
        f"learned from {seen.get('feedback', 0)} feedbacks and {seen.get('calls', 0)} calls, on estimates of "
        f"{lineage.estimator[:19] or 'no artefact'}"
    )
    for step in lineage.history[-_STEPS_SHOWN:]:
        yield Text(f"  {_when(step.at)} {step.what} {step.detail}".rstrip())


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _qualities(known: Account) -> Table:
    table = _table("quality: model", "answers seen", "estimated", "believed", "shift", "state")
    for name, model in known.models.items():
        if model.quality is not None:
            table.add_row(*map(Text, (name, *_quality(model.quality))))
    return table


def _kinds(known: Account) -> Table:
    table = _table("quality: model", "use case", "shift")
    for name, model in known.models.items():
        for kind, shift in model.quality.use_cases.items() if model.quality is not None else ():
            table.add_row(*map(Text, (name, kind, f"{shift.mean:+.2f} (sd {shift.sd:.2f})")))
    return table


def _quality(quality: Quality) -> tuple[str, ...]:
    state = "-" if quality.fallen is None else f"fell {quality.fallen} answers ago" if quality.fallen else "stands"
    believed = f"{quality.believed:.2f} [{quality.low:.2f}, {quality.high:.2f}]"
    shift = f"{quality.shift.mean:+.2f} (sd {quality.shift.sd:.2f})"
    return str(quality.seen), f"{quality.estimated:.2f}", believed, shift, state


def _lengths(known: Account) -> Table:
    table = _table("answers: model", "class", "mean tokens", "97 % under", "ceiling")
    for name, model in known.models.items():
        for request_class in sorted(model.lengths.keys() | model.ceilings.keys()):
            table.add_row(*map(Text, (name, request_class or "all", *_length(model, request_class))))
    return table


def _length(model: OfModel, request_class: str) -> tuple[str, ...]:
    learned, ceiling = model.lengths.get(request_class), model.ceilings.get(request_class)
    tokens = ("-", "-") if learned is None else (f"{learned.mean_tokens:.0f}", f"{learned.p97_tokens:.0f}")
    return (*tokens, "-" if ceiling is None else str(ceiling))


def _checks(known: Account) -> Table:
    table = _table("checks: model", "check", "grade", "share", "likelier of a good answer")
    for name, model in known.models.items():
        for check, grades in model.checks.items():
            for grade, told in grades.items():
                ratio = f"{told.likelihood_ratio:.2f} times"
                table.add_row(*map(Text, (name, check, grade, f"{told.share:.1%}", ratio)))
    return table


def _deployments(known: Account) -> Table:
    columns = ("token gaps", "slowness now", "step", "prompt token", "TTFT off", "TPOT off", "price")
    table = _table("latency: deployment", "model", *columns)
    for name, one in known.deployments.items():
        table.add_row(*map(Text, (name, one.model, *_deployment(one))))
    return table


def _deployment(one: OfDeployment) -> tuple[str, ...]:
    """Step and prompt token as a multiple of what was expected of the deployment."""
    slowness = "-" if one.slowness is None else f"{one.slowness:.2f}"
    ttft, tpot = f"{one.ttft_bias:.2f} (sd {one.ttft_sigma:.2f})", f"{one.tpot_bias:.2f} (sd {one.tpot_sigma:.2f})"
    step, prompt = (f"{one.shape[term]:.2f}x" for term in ("base", "per_prefill_token"))
    return str(one.samples), slowness, step, prompt, ttft, tpot, f"{one.capacity_price:.3f}"


def _floors(known: Account) -> Table:
    table = _table("floor of class", "price")
    for name, price in known.floors.items():
        table.add_row(Text(name), f"{price:.3f}")
    return table


def _table(name: str, *columns: str) -> Table:
    """Names stand whole; figures go on in the next line where there is no room."""
    return Table(Column(name, no_wrap=True), *columns, box=None, pad_edge=False)
