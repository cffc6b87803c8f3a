"""`router prices`: what the router believes that models cost, where that is from, and what a request costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from router.cli.decision_view import wide_console
from router.domain.deployment import Lane
from router.domain.errors import RouterError
from router.domain.outcome import Usage
from router.policy.prices.listed import BEDROCK, FACTORS, FACTORS_CITED, Listed, Rate, plain
from router.policy.prices.litellm import read_litellm
from router.policy.prices.shipped import SHIPPED

_FIGURES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def prices(
    model: Annotated[str, typer.Argument(help="Part of a model's id or name; absent: all.")] = "",
    *,
    litellm: Annotated[Path | None, typer.Option(help="Price file of LiteLLM's, in place of what ships.")] = None,
    input_tokens: Annotated[int, typer.Option("--in", min=0, help="Input tokens of a request.")] = 0,
    output_tokens: Annotated[int, typer.Option("--out", min=0, help="Output tokens of a request.")] = 0,
    cached: Annotated[int, typer.Option(min=0, help="How many of the input tokens come from a prompt cache.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For another program.")] = False,
) -> None:
    """Show what models cost: USD per million tokens on demand and in each service tier, with source and date; and, with
    --in and --out, what a request costs.

    A price of the policy (`price_usd_per_mtok` of a deployment, then `prices.models`) counts before a file of LiteLLM's
    (`prices.litellm`), and that before what ships; `prices: {shipped: false}` leaves the last out.

    * `router prices` : all that ships, without service tiers
    * `router prices haiku --in 1200 --out 300` : what such a request costs on each Haiku, tier by tier
    * `router prices claude --in 10000 --cached 9000 --out 200` : with a prompt cache that is warm
    * `router prices llama --litellm model_prices_and_context_window.json` : from LiteLLM's file
    * `router prices --json` : for another program

    Exit status: 0, 1 when no model has such a name, 2 when the file cannot be used.
    """
    if cached > input_tokens:
        raise RouterError(f"--cached {cached}: a request of {input_tokens} input tokens (--in) has no more to read")
    rows = _found(SHIPPED.rows if litellm is None else _rows(litellm), model)
    if not rows:
        typer.echo(f"no price of a model like {model}", err=True)
        raise typer.Exit(1)
    usage = Usage(input_tokens, output_tokens, cached)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode([_record(row, usage) for row in rows]), indent=2).decode())
        return
    wide_console().print(_table(rows, usage, tiers=bool(model) or _is_asked(usage)))
    for source, cited in sorted({(row.source, row.cited) for row in rows if row.cited}):
        typer.echo(f"{source}: {cited}")
    if any(row.provider == BEDROCK for row in rows):
        typer.echo(
            f"tiers of Bedrock: {', '.join(f'{tier} {factor:g}' for tier, factor in FACTORS.items())} ({FACTORS_CITED})"
        )


def _rows(file: Path) -> tuple[Listed, ...]:
    try:
        found = read_litellm(file.read_bytes())
    except OSError as error:
        raise RouterError(f"the file {file} cannot be read: {error.strerror}") from None
    if found.problem is not None:
        raise RouterError(f"the file {file} {found.problem}")
    return found.rows


def _found(rows: Iterable[Listed], model: str) -> list[Listed]:
    wanted, name = model.lower(), plain(model)
    return [row for row in rows if wanted in row.id.lower() or name in plain(row.id)]


def _cost(row: Listed, rate: Rate, usage: Usage) -> float:
    return rate.price(row.source).cost_of(usage)


def _is_asked(usage: Usage) -> bool:
    return usage.input_tokens + usage.output_tokens > 0


def _record(row: Listed, usage: Usage) -> dict[str, object]:
    """Rates in USD per million tokens, and the cost of the request that is asked about."""
    costs = {tier: round(_cost(row, rate, usage), 12) for tier, rate in row.rates.items()}
    told = {"model": row.id, "name": plain(row.id), "usd_per_mtok": row.rates, "source": row.source}
    return {**told, "cited": row.cited, **({"request_usd": costs} if _is_asked(usage) else {})}


def _table(rows: Iterable[Listed], usage: Usage, *, tiers: bool) -> Table:
    table = Table(box=None, header_style="bold", title="USD per million tokens", title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("tier")
    for column in ("input", "output", "cache read", "write", "write 1h", *(("request",) if _is_asked(usage) else ())):
        table.add_column(column, justify="right")
    table.add_column("source")
    for row in rows:
        for cells in _lines(row, usage, tiers=tiers):
            table.add_row(*cells)
    return table


def _lines(row: Listed, usage: Usage, *, tiers: bool) -> Iterator[list[str]]:
    """One for each service tier, that of on-demand calls first; without `tiers` that and optimised latency."""
    for tier, rate in row.rates.items():
        if not tiers and tier in FACTORS:
            continue
        is_ordinary = tier == Lane.DEFAULT.value
        figures = ["" if (usd := getattr(rate, field)) is None else f"{usd:g}" for field in _FIGURES]
        cost = [f"${_cost(row, rate, usage):.6f}"] if _is_asked(usage) else []
        yield [row.id if is_ordinary else "", tier, *figures, *cost, row.source if is_ordinary else ""]
