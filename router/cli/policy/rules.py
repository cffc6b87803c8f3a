"""`router policy rules`: what Prometheus should record and alert on, from the promises of a policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from router.domain.errors import PolicyError
from router.policy.rules.document import proof_document, rules_document
from router.runtime.reload import load_directory


def rules(
    directory: Annotated[Path, typer.Argument(help="Directory of the policy.")] = Path("policies"),
    *,
    out: Annotated[Path | None, typer.Option(help="Write the rules here instead of to the terminal.")] = None,
    tests: Annotated[
        Path | None, typer.Option(help="Write tests of the rules here too, for `promtool test rules`; needs --out.")
    ] = None,
) -> None:
    """Write Prometheus recording and alerting rules from a policy.

    For every class and objective: error ratios and burn rates over seven windows, a page for a fast burn and a ticket
    for a slow one (SRE workbook, chapter 5). Besides: budgets, rollouts, the queue, and the router itself. The same
    policy always gives the same file, so it can be kept under version control and compared.

    router policy rules policies/ --out rules.yml : write the file; then `promtool check rules rules.yml`

    router policy rules policies/ --out rules.yml --tests tests.yml : and tests of it, for promtool
    """
    if tests is not None and out is None:
        raise typer.BadParameter("the tests name the rules file that they are for: give --out as well")
    policy = load_directory(directory)
    text = rules_document(policy)
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text)
    if tests is not None:
        _write(tests, proof_document(policy, os.path.relpath(out.resolve(), tests.resolve().parent)))
    typer.echo(f"{out}: rules of policy {policy.digest}", err=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path} cannot be written: {error.strerror}") from None
