"""`router learned export` and `import`: what one router has learned, for another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.learned.places import Classes, Force, Key, Models, State, Url, What, place
from router.core.learned.rows import Choice
from router.domain.errors import RouterError
from router.domain.learned import PORTABLE
from router.storage import checkpoint


def export(
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; else it is printed.")] = None,
    what: What = None,
    model: Models = None,
    request_class: Classes = None,
    url: Url = None,
    state: State = None,
    key: Key = None,
) -> None:
    """Write what was learned as a JSON document that another router can take up. Models, deployments and request
    classes stand in it by name; prompts, tenants and money do not. Prices are left out unless they are named.

    Examples:

        router learned export --out learned.json

        router learned export --what quality --model llama-3.1-8b

        router learned export --state /var/lib/router --out learned.json
    """
    choice = Choice(tuple(what or PORTABLE), tuple(model or ()), tuple(request_class or ()))
    document = place(url, state, key).export(choice)
    if out is None:
        typer.echo(document.decode())
        return
    try:
        checkpoint.save(out, document)
    except OSError as error:
        raise RouterError(f"{out}: {error.strerror}") from None
    typer.echo(f"{out}: {len(document)} bytes", err=True)


def take_in(
    document: Annotated[Path, typer.Argument(metavar="FILE", help="What `router learned export` wrote.")],
    *,
    what: What = None,
    model: Models = None,
    request_class: Classes = None,
    url: Url = None,
    state: State = None,
    key: Key = None,
    force: Force = False,
) -> None:
    """Take up what another router has learned, whole or not at all. For each model that it knows, what is known here is
    replaced, part by part; other models stay as they are. Where another artefact estimates here than there, what it
    says of quality is believed less.

    Examples:

        router learned import learned.json

        router learned import learned.json --what latency --what lengths

        router learned import learned.json --model llama-3.1-8b --state /var/lib/router
    """
    try:
        data = document.read_bytes()
    except OSError as error:
        raise RouterError(f"{document}: {error.strerror}") from None
    choice = Choice(tuple(what or PORTABLE), tuple(model or ()), tuple(request_class or ()))
    names = place(url, state, key, force=force).take_in(data, choice)
    typer.echo(f"taken up: {', '.join(choice.parts)} of {', '.join(names)}")
