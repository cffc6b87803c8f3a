"""The `router` command: one file per verb, gathered here."""

from __future__ import annotations

import sys
from inspect import cleandoc

import typer

from router import __version__
from router.cli.aws.double import double
from router.cli.capacity import capacity
from router.cli.catalog import catalog
from router.cli.decisions import decisions
from router.cli.demo import demo
from router.cli.evaluate import evaluate
from router.cli.learned import learned
from router.cli.optimize import optimize
from router.cli.policy import policy
from router.cli.prices import prices
from router.cli.profile import profile
from router.cli.scenarios.files import FILES
from router.cli.serve import serve
from router.cli.simulate import simulate
from router.cli.train import train
from router.domain.errors import RouterError

app = typer.Typer(
    name="router",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""The adaptive model router: takes LLM requests from MQTT v5 and an OpenAI-compatible HTTP endpoint, and
sends each to the deployment that answers well enough, in time, for the least money.

* **See it work**: `router demo --for 30`
* **Run it**: `ROUTER_MQTT__URL=mqtt://localhost:1883 router serve`
* **Ask what it did**: `router decisions --last 20`
* **Ask what it would do**: `router simulate WORKLOAD --fleet FLEET --policies policies/bench/degrade --json OUT`
* **Change what is promised**: `router policy check`, `diff`, `try`, `status`
* **Teach it**: `router train outcomes.jsonl --out model.artefact`
* **See how good it is**: `router evaluate held_out.jsonl --model model.artefact --small A --large B --report page.html`
* **Buy reserved capacity that pays**: `router capacity advise --log state --plan plan.yaml --report advice.html`
* **Look up what models cost**: `router prices haiku --in 1200 --out 300`
* **Find a faster variant**: `router catalog advise --deployment NAME --log state`
* **Try it without an AWS account**: `router aws-double`
* **Make it**: `router optimize plan NAME --technique quantization ...`, then `apply`
* **Load-test a deployment**: `router profile small --concurrency 1,2,4,8 --max-usd 0.50 --report small.html`
* **Ask what it has learned**: `router learned show`, `reset`, `freeze`, `export`
""",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adaptive-model-router {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None: ...


for command in (serve, demo, simulate, decisions, train, evaluate, prices, profile):
    more = FILES if command is simulate else ""
    app.command(rich_help_panel="Commands", help=cleandoc(command.__doc__ or "") + more)(command)
app.command(name="aws-double", rich_help_panel="Commands")(double)
app.add_typer(policy, name="policy", rich_help_panel="Commands")
app.add_typer(capacity, name="capacity", rich_help_panel="Commands")
app.add_typer(catalog, name="catalog", rich_help_panel="Commands")
app.add_typer(optimize, name="optimize", rich_help_panel="Commands")
app.add_typer(learned, name="learned", rich_help_panel="Commands")


def main() -> None:
    """Entry point. A `RouterError` is a message and exit status 2, never a traceback."""
    try:
        app()
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
        sys.exit(2)
