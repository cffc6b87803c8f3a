"""`router catalog`: which models of JumpStart can be optimised how, and which variant a deployment would gain by.

`table` shows the catalogue, `advise` holds it against the promises of a policy and what was measured; `measured` finds
the latencies to start from.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from router.cli.catalog.advise import advise
from router.cli.catalog.table import table


class _ShowsByDefault(TyperGroup):
    """`router catalog llama` is `router catalog show llama`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in that is left out."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


catalog = typer.Typer(
    cls=_ShowsByDefault,
    rich_markup_mode="markdown",
    help="""Which models of SageMaker JumpStart can be quantised, decode speculatively or are compiled, and what for.

* **Which models**: `router catalog`, `router catalog llama-3`, `router catalog --technique speculative-decoding`
* **Which variant for a deployment that is too slow**: `router catalog advise --policies policies --deployment llama`

Nothing is asked of AWS and nothing is changed. `router optimize` makes a variant.
""",
)

catalog.command("show")(table)
catalog.command()(advise)
