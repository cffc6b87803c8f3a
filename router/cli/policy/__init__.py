"""`router policy ...`: look at policies before they are in force. One file a command, gathered here."""

from __future__ import annotations

import typer

from router.cli.policy.attempt import attempt
from router.cli.policy.check import check
from router.cli.policy.diff import diff
from router.cli.policy.explain import explain
from router.cli.policy.history import history
from router.cli.policy.rules import rules
from router.cli.policy.schema import schema
from router.cli.policy.status import status

policy = typer.Typer(no_args_is_help=True, help="Work on policies: check an edit before it is in force.")

policy.command()(check)
policy.command()(schema)
policy.command()(diff)
policy.command()(explain)
policy.command()(rules)
policy.command()(history)
policy.command()(status)
policy.command("try")(attempt)
