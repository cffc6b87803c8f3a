"""`router optimize ...`: a faster variant of a model, made by a job of SageMaker and tried in the shadow.

`plan` writes what would be asked for, `apply` submits it once it is confirmed and follows it, `fragment` is the policy
of the variant that comes of it.
"""

from __future__ import annotations

import typer

from router.cli.optimize.apply import apply
from router.cli.optimize.plan import plan

optimize = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Make a quantised, compiled or speculatively decoding variant of a model that SageMaker hosts.

* **Write down what would be done**: `router optimize plan llama --technique quantization ... --out plan.yaml`
* **Do it**: `router optimize apply plan.yaml`, which shows and asks first, follows the job, and writes the variant's
  deployment as policy

Which technique helps: `router catalog advise --deployment NAME --log state`.
""",
)

optimize.command()(plan)
optimize.command()(apply)
