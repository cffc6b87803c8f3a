"""The AWS double while it runs: what to set, and in the end what was called and billed."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import typer
from rich.table import Table

from router.cli.decision_view import wide_console
from router.domain.errors import SettingsError
from router.doubles.aws.console.admin import ADMIN_PATH
from router.doubles.aws.console.config import read_world, world_of_any_model
from router.doubles.aws.models import Bill
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World

_ENVIRONMENT = """\
export AWS_ENDPOINT_URL={url}
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
"""


def run(config: Path | None, port: int, stores: bool) -> None:
    """Serve until Ctrl-C, and show what was called and billed."""
    world = world_of_any_model() if config is None else read_world(config)
    try:
        asyncio.run(_serve(world, port, stores))
    except OSError as error:
        raise SettingsError(f"port {port} cannot be used: {error.strerror}; try --port 0") from None


async def _serve(world: World, port: int, stores: bool) -> None:
    console, ended = wide_console(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with aws_double(world, port=port, stores=stores) as one:
        typer.echo(_ENVIRONMENT.format(url=one.url))
        served = "Bedrock, SageMaker and STS" + (", S3, SQS and CloudWatch" if stores else "")
        typer.echo(f"# {served}. State: {one.url}{ADMIN_PATH}. Ctrl-C ends it.")
        await ended.wait()
    console.print(billed(world))
    if world.refusals:
        refused = Counter(one.code for one in world.refusals)
        console.print("Refused: " + ", ".join(f"{code} {n}" for code, n in sorted(refused.items())))


def billed(world: World) -> Table:
    """What was called and billed: a row for each model, operation and service level."""
    rows: dict[tuple[str, str, str], list[Bill]] = defaultdict(list)
    for bill in world.bills:
        level = bill.tier if bill.latency == "standard" else bill.latency
        rows[bill.model, bill.operation, level].append(bill)
    table = Table(title=f"{len(world.calls)} calls, {len(world.bills)} billed")
    for name in ("model", "operation", "served as"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "input", "cache read", "cache written", "output", "USD"):
        table.add_column(name, justify="right")
    for key in sorted(rows):
        counts = [
            sum(getattr(bill, name) for bill in rows[key])
            for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
        ]
        usd = sum(bill.usd for bill in rows[key])
        table.add_row(*key, str(len(rows[key])), *(f"{n:,}" for n in counts), f"{usd:.6f}")
    table.add_row("all", "", "", str(len(world.bills)), "", "", "", "", f"{sum(b.usd for b in world.bills):.6f}")
    return table
