"""`router policy explain`: why a request goes where it goes, before it is sent or after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import msgspec
import typer
from pydantic_core import PydanticCustomError
from rich.console import Group, RenderableType
from rich.text import Text

from router.cli.decision_view import explanation, wide_console
from router.cli.explained import Asking, Explained, read_request_file
from router.cli.explained_view import explained_json, then_and_now, view
from router.domain.decision import Decision
from router.domain.errors import RequestError
from router.domain.reasons import evidence
from router.policy.schema.values import read_duration
from router.runtime.clock import RealClock
from router.settings import Settings, load_settings
from router.storage.decision_records import Logged, decision_folder, log_files, read_decisions
from router.wire.openai import Envelope

_ANSWER_WITHIN_S = 10.0
_MANY = 5
_NO_KEY = "give an operator's key with --key or in ROUTER_ADMIN_KEY"
_HINTS = {
    401: _NO_KEY,
    403: _NO_KEY,
    404: "it keeps the latest few thousand; the log has more (leave --url out)",
}
"""What to do about an answer of a running daemon, by its status."""

_Key = Annotated[
    str | None,
    typer.Option(
        envvar=["ROUTER_ADMIN_KEY", "ROUTER_API_KEY"],
        help="With --url: an operator's key, where the daemon asks for one; else its own, where that is set here.",
    ),
]


def explain(
    request: Annotated[
        Path | None, typer.Argument(metavar="REQUEST.json", help="An OpenAI chat-completions body.")
    ] = None,
    *,
    at: Annotated[
        str | None, typer.Option(metavar="DECISION_ID", help="A logged decision, or how its id begins.")
    ] = None,
    policies: Annotated[Path | None, typer.Option(help="Policy directory; else ROUTER_POLICIES or ./policies.")] = None,
    state: Annotated[Path | None, typer.Option(help="State directory; else ROUTER_STATE_DIR or ./state.")] = None,
    url: Annotated[str | None, typer.Option(help="Ask a running daemon for the decision of --at.")] = None,
    key: _Key = None,
    tenant: Annotated[str, typer.Option(help="Sender, as in the header x-router-tenant.")] = "default",
    request_class: Annotated[str | None, typer.Option("--class", help="Class that the sender names.")] = None,
    topic: Annotated[str, typer.Option(help="MQTT topic that it comes on.")] = "",
    deadline: Annotated[str | None, typer.Option(help="Time to the last token, such as 5s or 800ms.")] = None,
    properties: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="A user property; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Show where a request would go, and why: its class, what is predicted of every candidate, and what decided.

    Predictions are those of the daemon's last checkpoint, with nothing in flight. Nothing is called, and nothing is
    written.

    Examples:

        router policy explain request.json

        router policy explain request.json --class chat --tenant acme --deadline 5s

        router policy explain --at d1f2-2a : what was decided then, from the decision log

        router policy explain request.json --at d1f2-2a : then, and what would be decided now

        router policy explain --at d1f2-2a --url http://127.0.0.1:8080 : from a running daemon
    """
    if request is None and at is None:
        raise RequestError("nothing to explain: name a REQUEST.json, or a decision with --at")
    overrides: dict[str, Any] = {"policies": policies, "state_dir": state}
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    then = None if at is None else _logged(at, settings) if url is None else _asked(at, url, key or _own_key(settings))
    now = None
    if request is not None:
        envelope = _envelope(tenant, request_class, topic, deadline, properties or [])
        now = Asking(settings).explain(read_request_file(request, envelope))
    if as_json:
        document = {"then": _logged_json(then) if then else None, "now": explained_json(now) if now else None}
        typer.echo(json.dumps(document, indent=1))
    else:
        wide_console().print(_shown(then, now, logged=url is None))


def _shown(then: Logged | None, now: Explained | None, *, logged: bool) -> RenderableType:
    parts: list[RenderableType] = [] if then is None else [explanation(then, ended=logged)]
    if now is not None:
        parts += [view(now)] if then is None else [Text("\nnow:"), view(now)]
    if then is not None and now is not None and now.decision is not None:
        parts.append(then_and_now(then.decision, now.decision))
    return Group(*parts)


def _envelope(
    tenant: str, request_class: str | None, topic: str, deadline: str | None, properties: list[str]
) -> Envelope:
    clock = RealClock()
    pairs = tuple((name, value) for name, _, value in (p.partition("=") for p in properties))
    if any("=" not in p for p in properties):
        raise RequestError("--property is written NAME=VALUE")
    left_s = None
    if deadline is not None:
        try:
            left_s = read_duration(float(deadline) if deadline.replace(".", "", 1).isdigit() else deadline)
        except PydanticCustomError as error:
            raise RequestError(f"--deadline {deadline}: {error.message()}") from None
    now = clock.now()
    return Envelope(
        id="explained",
        arrived=now,
        at=clock.at(),
        source="http" if not topic else "mqtt",
        tenant=tenant,
        topic=topic,
        request_class=request_class,
        deadline=None if left_s is None else now + left_s,
        attributes=pairs,
    )


def _logged(decision_id: str, settings: Settings) -> Logged:
    """The one decision whose id is, or begins with, what was given."""
    folder, wanted = decision_folder(settings.state_dir), decision_id.removeprefix("chatcmpl-")
    found = [d for d in read_decisions(log_files(folder)) if d.decision.id.startswith(wanted)]
    exact = [d for d in found if d.decision.id == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise RequestError(
            f"no decision {decision_id} in {folder}: look with `router decisions --state {settings.state_dir}`, or ask"
            " a running daemon with --url",
            code="decision_not_found",
        )
    some = ", ".join(d.decision.id for d in found[:_MANY])
    raise RequestError(f"{len(found)} decisions begin with {decision_id}: {some} ...", code="decision_not_found")


def _own_key(settings: Settings) -> str | None:
    """Where the command is given what the daemon is given."""
    keys = settings.http.admin_keys or settings.http.api_keys
    return keys[0].get_secret_value() if keys else None


def _asked(decision_id: str, url: str, key: str | None) -> Logged:
    """A decision as a running daemon tells it."""
    page = f"{url.rstrip('/')}/v1/decisions/{quote(decision_id, safe='')}"
    if not page.startswith(("http://", "https://")):
        raise RequestError(f"--url {url}: write http://HOST:PORT")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        with urlopen(HttpRequest(page, headers=headers), timeout=_ANSWER_WITHIN_S) as answer:  # noqa: S310
            return Logged(msgspec.json.decode(answer.read(), type=Decision))
    except HTTPError as error:
        with error:
            hint = _HINTS.get(error.code, "")
            raise RequestError(f"{page}: {error.code} {error.reason}; {hint}".rstrip("; "), code="not_found") from None
    except (URLError, TimeoutError, msgspec.DecodeError) as error:
        raise RequestError(f"{page}: {getattr(error, 'reason', error)}", code="not_found") from None


def _logged_json(logged: Logged) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(logged)
    return {**document, "decision": evidence(logged.decision)}
