"""Where what was learned is: in a running router, or in the state directory of one that does not run."""

from __future__ import annotations

import os
from pathlib import Path
from time import time
from typing import Annotated, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec
import typer
from msgspec import Struct, json

from router.core import snapshot
from router.core.learned import change
from router.core.learned.account import account
from router.core.learned.lineage import Step
from router.core.learned.rows import Choice
from router.core.snapshot import Snapshot
from router.domain.errors import RouterError
from router.domain.learned import Part
from router.storage import checkpoint

DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 30.0
_WRITES_EVERY_S = 45.0
"""A running router writes its checkpoint more often than this."""

Url = Annotated[str | None, typer.Option(help=f"Address of a running router; {DEFAULT_URL} unless --state is given.")]
State = Annotated[Path | None, typer.Option(help="State directory of a router that does not run.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar=["ROUTER_ADMIN_KEY", "ROUTER_API_KEY"],
        help="An operator's key, one of the running router's ROUTER_HTTP__ADMIN_KEYS, where it asks for one.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="With --state: even if a router seems to run on it.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Only of this model or deployment; repeatable.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="Only of this request class; repeatable.")]
What = Annotated[list[Part] | None, typer.Option("--what", help="Which part; repeatable.")]


class Place(Protocol):
    """What can be asked of either."""

    def page(self) -> bytes:
        """What is known, for people: the JSON of an `Account`."""
        ...

    def export(self, choice: Choice) -> bytes:
        """What is known, for another router."""
        ...

    def take_in(self, document: bytes, choice: Choice) -> tuple[str, ...]:
        """Take up such a document; the models and deployments that it was about."""
        ...

    def reset(self, choice: Choice) -> int:
        """Forget; how many rows."""
        ...

    def freeze(self, parts: tuple[Part, ...], *, thaw: bool) -> tuple[Part, ...]:
        """Learn nothing of these parts from here on, or again; what is frozen now."""
        ...


def place(url: str | None, state: Path | None, key: str | None, *, force: bool = False) -> Place:
    """The one that was named."""
    if url is not None and state is not None:
        raise RouterError("name a running router with --url, or a state directory with --state, not both")
    return Running(url or DEFAULT_URL, key) if state is None else AtRest(state, force=force)


class _Told(Struct, frozen=True):
    rows: int = 0
    names: tuple[str, ...] = ()
    frozen: tuple[Part, ...] = ()


class Running:
    """Over HTTP."""

    def __init__(self, url: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise RouterError(f"--url {url}: write http://HOST:PORT")
        self._url, self._key = url.rstrip("/"), key

    def page(self) -> bytes:
        """See `Place.page`."""
        return self._ask("GET", "")

    def export(self, choice: Choice) -> bytes:
        """See `Place.export`."""
        return self._ask("GET", f"/export?{_query(choice)}")

    def take_in(self, document: bytes, choice: Choice) -> tuple[str, ...]:
        """See `Place.take_in`."""
        return self._told("PUT", f"?{_query(choice)}", document).names

    def reset(self, choice: Choice) -> int:
        """See `Place.reset`."""
        asked = {"what": choice.parts, "models": choice.models, "classes": choice.classes}
        return self._told("POST", "/reset", json.encode(asked)).rows

    def freeze(self, parts: tuple[Part, ...], *, thaw: bool) -> tuple[Part, ...]:
        """See `Place.freeze`."""
        return self._told("POST", "/thaw" if thaw else "/freeze", json.encode({"what": parts})).frozen

    def _told(self, method: str, path: str, body: bytes) -> _Told:
        try:
            return json.decode(self._ask(method, path, body), type=_Told)
        except msgspec.DecodeError as error:
            raise RouterError(f"{self._url} answered something else than a router would: {error}") from None

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"content-type": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        request = Request(f"{self._url}/v1/learned{path}", body, headers, method=method)  # noqa: S310  # http(s) only
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # the scheme was looked at
                said: bytes = answer.read()
                return said
        except HTTPError as error:
            with error:
                raise RouterError(f"{self._url}: {_reason(error)}") from None
        except (URLError, OSError) as error:
            why = getattr(error, "reason", error)
            raise RouterError(
                f"no router answers at {self._url} ({why}): name another with --url, or with --state the state "
                "directory of one that does not run"
            ) from None


class AtRest:
    """On the files."""

    def __init__(self, state: Path, *, force: bool) -> None:
        self._file, self._force = checkpoint.checkpoint_file(state), force

    def page(self) -> bytes:
        """See `Place.page`."""
        return json.encode(account(self._read()))

    def export(self, choice: Choice) -> bytes:
        """See `Place.export`."""
        return change.exported(self._read(), choice)

    def take_in(self, document: bytes, choice: Choice) -> tuple[str, ...]:
        """See `Place.take_in`."""
        try:
            theirs = snapshot.read(document)
            account(theirs)
        except RouterError as error:
            raise RouterError(f"nothing was taken up of the document: {error}", code=error.code) from error
        data = checkpoint.load(self._file)
        known = change.blank(theirs) if data is None else snapshot.read(data)
        whole, step, names = change.imported(known, theirs, choice, estimator=change.estimator_of(known), at=time())
        self._write(known, whole, step)
        return names

    def reset(self, choice: Choice) -> int:
        """See `Place.reset`."""
        known = self._read()
        left, step, rows = change.reset(known, choice, at=time())
        self._write(known, left, step)
        return rows

    def freeze(self, parts: tuple[Part, ...], *, thaw: bool) -> tuple[Part, ...]:
        """See `Place.freeze`."""
        known = self._read()
        held, step = change.frozen(known, parts, at=time(), thaw=thaw)
        self._write(known, held, step)
        return held.frozen

    def _read(self) -> Snapshot:
        data = checkpoint.load(self._file)
        if data is None:
            raise RouterError(
                f"there is no {self._file}: a router writes it every half minute and when it stops; name its state "
                "directory with --state"
            )
        return snapshot.read(data)

    def _write(self, known: Snapshot, changed: Snapshot, step: Step) -> None:
        """The file keeps the time at which a router last wrote it: one that runs is known by that."""
        written = self._file.stat().st_mtime if self._file.exists() else None
        if not self._force and written is not None and time() - written < _WRITES_EVERY_S:
            raise RouterError(
                f"{self._file} was written less than {_WRITES_EVERY_S:.0f} seconds ago: a router that runs on it would "
                "write over the change. Ask that router with --url; if it has just stopped, use --force"
            )
        whole = change.descend_from(known, changed, step)
        account(whole)
        checkpoint.save(self._file, json.encode(whole))
        if written is not None:
            os.utime(self._file, (written, written))


def _query(choice: Choice) -> str:
    pairs = [("what", part.value) for part in choice.parts]
    return urlencode([*pairs, *(("model", m) for m in choice.models), *(("class", c) for c in choice.classes)])


def _reason(error: HTTPError) -> str:
    if error.code == 401:
        return "it asks for a key: give one of its ROUTER_HTTP__ADMIN_KEYS with --key or in ROUTER_ADMIN_KEY"
    try:
        told = json.decode(error.read(), type=dict[str, dict[str, object]])
        return str(told["error"]["message"])
    except (msgspec.DecodeError, KeyError):
        return f"{error.code} {error.reason}"
