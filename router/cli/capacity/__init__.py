"""`router capacity ...`: how much reserved capacity to buy, asked of what was asked for. Gathered here.

`options` are the words of the command line, `terms` finds unit and prices in them and in the policy, `advise` is the
command, `view` what a terminal shows, `page` the report, `written` the plan that comes of an advice. `bought` and
`apply` ask AWS; `changed` shows what a plan would change.
"""

from __future__ import annotations

import typer

from router.cli.capacity.advise import advise
from router.cli.capacity.apply import apply
from router.cli.capacity.bought import bought
from router.cli.capacity.show import show

capacity = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""How many provisioned units to buy, for which hours. Nothing but `apply` buys or changes anything.

* **From what the router served**: `router capacity advise --log state --plan plan.yaml --report advice.html`
* **From a trace**: `router capacity advise --trace month.csv.gz --model llama-3.1-70b`
* **Read a plan again**: `router capacity show plan.yaml`
* **See what has been bought**: `router capacity list --region us-east-1`
* **Carry a plan out**: `router capacity apply plan.yaml`, which shows and asks first

A unit is paid by the hour whether it is used or not; what it does not serve is bought on demand. So one more unit pays
as long as it is in full use for more of its time than k = price of the unit / on-demand price of what it serves in full
use, and the right number C is where demand exceeds C for the share k of the time: the newsvendor's quantile. Sizing for
the peak, or for the 95th percentile, mostly buys idle hours. A unit takes so many input *and* so many output tokens a
minute; whichever runs out first binds.

Two weeks of log are the least to commit money on, a month is better. Unit sizes and prices are those of your contract:
they come from the provisioned deployment of the policy, or from options.
""",
)

capacity.command()(advise)
capacity.command()(show)
capacity.command("list")(bought)
capacity.command()(apply)
