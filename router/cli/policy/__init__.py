"""`router policy ...`: look at policies before they are in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from router.domain.errors import PolicyError
from router.policy.parse import PolicyErrors
from router.policy.schema.json import json_schema
from router.runtime.reload import load_directory

policy = typer.Typer(no_args_is_help=True, help="Check a policy directory, or print the schema that editors use.")


@policy.command()
def check(
    directory: Annotated[Path, typer.Argument(help="Directory of the policy.")] = Path("policies"),
) -> None:
    """Read a policy directory as the daemon would and say what is wrong, by file, line and field.

    Example: `router policy check policies/`. Exit status 0 when it would be accepted, 1 when not.
    """
    try:
        found = load_directory(directory)
    except PolicyError as error:
        problems = error.problems if isinstance(error, PolicyErrors) else (error,)
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}; the daemon would keep its old policy")
        raise typer.Exit(1) from None
    classes = ", ".join(c.name for c in found.classes)
    typer.echo(f"policy {found.digest}: {len(found.deployments)} deployments, classes {classes}")


@policy.command()
def schema() -> None:
    """Print the JSON Schema of policy documents, for editors that complete and underline.

    Example: `router policy schema > policies/schema.json`
    """
    typer.echo(json.dumps(json_schema(), indent=2))
