"""`router policy diff`: what an edit of a policy would change, and how that would come into force."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from router.cli.policy.diff_view import lines
from router.cli.policy.revision import read_revision
from router.domain.errors import PolicyError
from router.policy.compile import compile_policy
from router.policy.meaning.compare import Comparison, compare
from router.policy.policy import Policy
from router.runtime.reload import load_directory
from router.runtime.reload.price_files import price_files

SAME, DIFFERENT, TROUBLE = 0, 1, 2


class Format(StrEnum):
    """How it is told."""

    TEXT = "text"
    JSON = "json"


def diff(
    old: Annotated[Path, typer.Argument(help="Directory of the policy in force; with --git the one directory.")],
    new: Annotated[Path | None, typer.Argument(help="Directory of the edited policy.")] = None,
    *,
    git: Annotated[
        str | None, typer.Option("--git", metavar="REV", help="Compare with the directory as it was at this commit.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="text, or json for another program.")] = Format.TEXT,
) -> None:
    """Say what an edit of a policy changes in meaning, and how it would come into force.

    Which requests fall in other classes (with examples), which promises and bounds became tighter or looser, what is
    swapped at once, what goes by the steps of a rollout, and what drains first. Comments and layout do not count.

    Exit status: 0 they mean the same, 1 they differ, 2 one of them cannot be read.

    router policy diff policies/ policies-new/ : two directories

    router policy diff --git HEAD policies/ : what is edited since the last commit

    router policy diff --git main~3 policies/ --format json : for another program
    """
    try:
        before, after = _both(old, new, git)
    except PolicyError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(TROUBLE) from None
    found = compare(before, after)
    if form is Format.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(_record(found))).decode())
    else:
        for line in lines(found):
            typer.echo(line)
    raise typer.Exit(DIFFERENT if found.old != found.new else SAME)


def _both(old: Path, new: Path | None, git: str | None) -> tuple[Policy, Policy]:
    if git is None and new is None:
        raise PolicyError("nothing to compare with: give a second directory, or --git REV")
    if git is not None and new is not None:
        raise PolicyError("--git compares one directory with its own past: give only one")
    if git is not None:
        documents = read_revision(old, git)
        return compile_policy(documents, price_files=price_files(documents)), load_directory(old)
    return load_directory(old), load_directory(new or old)


def _record(found: Comparison) -> dict[str, object]:
    """The comparison with what is worked out from it."""
    return {
        "same": found.old == found.new,
        "old": found.old,
        "new": found.new,
        "reroutes": [{"classes": names, "by": subjects} for names, subjects in found.rerouted().items()],
        "changes": [
            {
                "subject": c.subject,
                **msgspec.structs.asdict(c.move),
                "how": c.effect.how,
                "how_text": c.effect.text,
                "classes": c.classes,
            }
            for c in found.changes
        ],
        "examples": found.examples,
        "probes": found.probes,
        "new_environment": found.environment,
    }
