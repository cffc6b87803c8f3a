"""`router learned reset`, `freeze` and `thaw`: what is forgotten, and what is learned no more for a while."""

from __future__ import annotations

import typer

from router.cli.learned.places import Classes, Force, Key, Models, State, Url, What, place
from router.core.learned.rows import Choice
from router.domain.errors import RequestError
from router.domain.learned import FREEZABLE, FROZEN_BY_DEFAULT, Part


def reset(
    *,
    what: What = None,
    model: Models = None,
    request_class: Classes = None,
    everything: bool = typer.Option(False, "--all", help="All parts."),
    url: Url = None,
    state: State = None,
    key: Key = None,
    force: Force = False,
) -> None:
    """Forget something: from then on it is what it would be in a router that has just been started. Nothing else is
    touched, and money spent today is not learned: it stays.

    --what is quality (how far estimates are off), lengths (of answers), latency (of deployments), ceilings (learned
    max_tokens), checks (what they are worth), prices (of floors and capacity).

    Examples:

        router learned reset --what quality --model llama-3.1-8b : relearn how good it is, not how fast

        router learned reset --what lengths --class chat : answers of the class are of another length now

        router learned reset --what latency --model small-0 : the deployment has moved to another machine

        router learned reset --all --state state : on the files of a router that does not run
    """
    if everything == bool(what):
        raise RequestError(f"say what to forget: --what ({', '.join(Part)}), which may be repeated, or --all")
    choice = Choice(tuple(Part if everything else what or ()), tuple(model or ()), tuple(request_class or ()))
    rows = place(url, state, key, force=force).reset(choice)
    typer.echo(f"forgotten: {rows} {'row' if rows == 1 else 'rows'} of {', '.join(choice.parts)}")


def freeze(*, what: What = None, url: Url = None, state: State = None, key: Key = None, force: Force = False) -> None:
    """Learn nothing from here on, over restarts, until it is thawed. Requests are served with what is known; drift and
    changes of models are not followed.

    Without --what that is quality, checks, lengths and ceilings. Latency has to be named: frozen, its shape and its
    spread stand still; only the slowness of the moment is followed. Prices cannot be frozen.

    Examples:

        router learned freeze

        router learned freeze --what quality

        router learned freeze --what quality --what latency --url http://router:8080
    """
    _tell(place(url, state, key, force=force).freeze(tuple(what or FROZEN_BY_DEFAULT), thaw=False))


def thaw(*, what: What = None, url: Url = None, state: State = None, key: Key = None, force: Force = False) -> None:
    """Learn again what was frozen; without --what all of it.

    Examples:

        router learned thaw

        router learned thaw --what latency
    """
    _tell(place(url, state, key, force=force).freeze(tuple(what or FREEZABLE), thaw=True))


def _tell(frozen: tuple[Part, ...]) -> None:
    typer.echo(f"frozen: {', '.join(frozen)}" if frozen else "nothing is frozen: everything is learned")
