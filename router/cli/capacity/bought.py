"""`router capacity list`: what has been bought, and how it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Column, Table
from rich.text import Text

from router.backends.aws.control.provisioned import IN_SERVICE, Provisioned, list_provisioned
from router.cli.aws import account as a
from router.cli.decision_view import wide_console

_DAY_S = 86_400.0
_SOON_DAYS = 7.0


def bought(*, region: a.Region = None, role: a.Role = None, endpoint_url: a.Endpoint = None) -> None:
    """List the provisioned throughput of an account: status, units, commitment and when that ends. Changes nothing.

    Examples:

        router capacity list --region us-east-1

        router capacity list --endpoint-url http://127.0.0.1:4566
    """
    found = a.asked("bedrock", list_provisioned, region=region, role=role, endpoint=endpoint_url)
    console = wide_console()
    if not found:
        console.print("No provisioned throughput here. `router capacity advise` says whether some would pay.")
        return
    console.print(table_of(found, at=time.time()))


def table_of(found: Sequence[Provisioned], *, at: float) -> Table:
    """One row for each; `at` is now."""
    name, model = Column("name", overflow="fold"), Column("model", overflow="fold")
    table = Table(name, model, "status", "units", "commitment", "ends", "ARN", box=None, pad_edge=False)
    for one in found:
        units = str(one.units) if one.units == one.desired_units else f"{one.units} of {one.desired_units}"
        status = Text(one.status, style="green" if one.status == IN_SERVICE else "yellow")
        arn = Text(one.arn, overflow="fold")
        table.add_row(one.name, one.model, status, units, one.commitment or "none", _ends(one.ends_at, at), arn)
    return table


def _ends(ends_at: float | None, at: float) -> Text:
    if ends_at is None:
        return Text("by the hour")
    days = (ends_at - at) / _DAY_S
    day = datetime.fromtimestamp(ends_at, UTC).date().isoformat()
    told = f"{day}, in {days:.0f} days" if days > 0 else f"{day}, over"
    return Text(told, style="red" if days < _SOON_DAYS else "")
