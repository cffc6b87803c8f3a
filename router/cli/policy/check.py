"""`router policy check`: is a policy directory right, and does it say what its author means?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from router.domain.errors import PolicyError
from router.policy.checks.problem import Problem, Severity, as_problem
from router.policy.checks.warnings import find_warnings
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors
from router.policy.policy import Policy
from router.runtime.reload import read_directory
from router.runtime.reload.price_files import price_files


class Format(StrEnum):
    """For people, for programs, or as annotations of a pull request."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def check(
    directory: Annotated[Path, typer.Argument(help="Directory of the policy.")] = Path("policies"),
    style: Annotated[
        Format, typer.Option("--format", help="text; json, a list of findings; github, annotations of a pull request.")
    ] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail the check too.")] = False,
) -> None:
    """Read a policy directory as the daemon would, and say what is wrong by file, line and field.

    An error keeps the daemon from taking the policy up: an unknown field, a name that is not there. A warning does
    not: an objective below what the fastest deployment can do, a class that an earlier one shadows, a budget that no
    call fits into.

    * `router policy check policies/`
    * `router policy check policies/ --strict --format github` in a workflow: findings show beside the lines
    * `router policy check policies/ --format json | jq '.[] | select(.severity == "error")'`

    Exit status: 0 when the policy would be accepted, 1 when not, or when it has warnings and `--strict` is given.
    """
    policy, problems = examine(directory)
    if style is Format.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(problems), indent=2).decode())
    elif style is Format.GITHUB:
        for problem in problems:
            typer.echo(annotation(problem))
    else:
        typer.echo(_text(policy, problems))
    if any(strict or p.severity is Severity.ERROR for p in problems):
        raise typer.Exit(1)


def examine(directory: Path) -> tuple[Policy | None, tuple[Problem, ...]]:
    """The policy in a directory with its warnings, or no policy and its errors."""
    try:
        documents = read_directory(directory)
        policy = compile_policy(documents, price_files=price_files(documents))
    except PolicyError as error:
        errors = error.problems if isinstance(error, PolicyErrors) else (error,)
        return None, tuple(as_problem(e) for e in errors)
    return policy, find_warnings(documents, policy)


def annotation(problem: Problem) -> str:
    """A workflow command of GitHub Actions: what ends a command or a property in it is percent-encoded."""
    message = _escaped(f"{problem.path}: {problem.message}" if problem.path else problem.message)
    file = _escaped(problem.file).replace(":", "%3A").replace(",", "%2C")
    return f"::{problem.severity} file={file},line={problem.line},col={problem.column}::{message}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _text(policy: Policy | None, problems: Sequence[Problem]) -> str:
    lines = []
    for file, found in groupby(problems, key=lambda p: p.file):
        lines.append(file)
        for p in found:
            field = f"{p.path}: " if p.path else ""
            lines.append(f"  {f'{p.line}:{p.column}':<8} {p.severity:<8} {field}{p.message}")
        lines.append("")
    if policy is not None:
        classes = ", ".join(c.name for c in policy.classes)
        lines.append(f"policy {policy.digest}: {len(policy.deployments)} deployments, classes {classes}")
    kept = "; the daemon would keep its old policy" if policy is None else ""
    return "\n".join((*lines, f"{_count(problems)}{kept}"))


def _count(problems: Sequence[Problem]) -> str:
    """How many of each severity, `no problem` where there is none."""
    parts = []
    for severity in Severity:
        count = sum(p.severity is severity for p in problems)
        if count:
            parts.append(f"{count} {severity}{'s' if count != 1 else ''}")
    return ", ".join(parts) or "no problem"
