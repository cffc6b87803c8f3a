"""`router learned ...`: what the router has learned, to be looked at and to be changed. Gathered here."""

from __future__ import annotations

import typer

from router.cli.learned.change import freeze, reset, thaw
from router.cli.learned.show import show
from router.cli.learned.transfer import export, take_in

learned = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""What the router has learned: look at it, forget some of it, hold it still, carry it elsewhere.

* **Look**: `router learned show`
* **Forget**: `router learned reset --what quality --model llama-3.1-8b`
* **Hold still**: `router learned freeze`, `router learned thaw`
* **Carry**: `router learned export --out learned.json`, `router learned import learned.json`

All of them ask the running router at `--url`, by default the one on this machine; with `--state DIR` they work on the
state directory of a router that does not run. The running router wants an operator's key, one of those in its
ROUTER_HTTP__ADMIN_KEYS: give it with `--key` or in ROUTER_ADMIN_KEY. One that has no keys at all and listens on
loopback asks for none.
""",
)

learned.command()(show)
learned.command()(reset)
learned.command()(freeze)
learned.command()(thaw)
learned.command()(export)
learned.command("import")(take_in)
