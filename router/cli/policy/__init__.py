"""`router policy ...`: look at policies before they are in force. One file a command, gathered here."""

from __future__ import annotations

import typer

from router.cli.policy.attempt import attempt
from router.cli.policy.check import check
from router.cli.policy.diff import diff
from router.cli.policy.evaluation.command import evaluate
from router.cli.policy.explain import explain
from router.cli.policy.history import history
from router.cli.policy.rules import rules
from router.cli.policy.schema import schema
from router.cli.policy.status import status

policy = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""From a text edit to a safe change of live traffic.

* **Before**: `router policy check edited/`, `router policy diff policies edited/`, `router policy try edited/`,
  `router policy evaluate edited/ --log state`
* **While it comes into force**: `router policy status`, `router policy explain request.json`
* **After**: `router policy history`, `router policy rules --out rules.yml`
""",
)

policy.command()(check)
policy.command()(diff)
policy.command("try")(attempt)
policy.command()(evaluate)
policy.command()(status)
policy.command()(explain)
policy.command()(history)
policy.command()(rules)
policy.command()(schema)
