"""/v1/learned: what the router has learned, to be looked at, forgotten, held still, and carried elsewhere.

GET is for people, GET /export for another router, PUT takes such a document up; POST /reset, /freeze and /thaw change
what is there. Which parts, models and classes stands in the body of a POST, and in the query of the other two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.core.learned.rows import Choice
from router.domain.errors import RequestError, RouterError
from router.domain.learned import FROZEN_BY_DEFAULT, PORTABLE, Part
from router.ingress.http_answers import read_limited
from router.ports.learned import LearnedState

PATH = "/v1/learned"
_ASKED_BYTES = 64 * 1024
_DOCUMENT_BYTES = 64 * 1024 * 1024
_S = TypeVar("_S")


class Reset(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/learned/reset."""

    what: tuple[Part, ...]
    models: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class Freeze(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/learned/freeze and /thaw. Without `what`, all but latency is frozen, and all is thawed."""

    what: tuple[Part, ...] | None = None


class LearnedRoutes:
    """The handlers. `check` refuses who is no operator."""

    def __init__(self, learned: LearnedState, check: Callable[[Request], None]) -> None:
        self._learned, self._check = learned, check

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route(PATH, self.page, methods=["GET"]),
            Route(PATH, self.take_in, methods=["PUT"]),
            Route(f"{PATH}/export", self.export, methods=["GET"]),
            Route(f"{PATH}/reset", self.reset, methods=["POST"]),
            Route(f"{PATH}/freeze", self.freeze, methods=["POST"]),
            Route(f"{PATH}/thaw", self.thaw, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """What is known, for people."""
        self._check(request)
        return Response(self._learned.page(), media_type="application/json")

    async def export(self, request: Request) -> Response:
        """What is known, for another router."""
        self._check(request)
        return Response(self._learned.export(_chosen(request.query_params)), media_type="application/json")

    async def take_in(self, request: Request) -> Response:
        """Take up what was exported elsewhere."""
        self._check(request)
        document = await _body(request, _DOCUMENT_BYTES)
        try:
            names = await self._learned.take_in(document, _chosen(request.query_params))
        except RouterError as error:
            raise RequestError(f"Nothing was taken up: {error}") from error
        return _done("imported", names=names)

    async def reset(self, request: Request) -> Response:
        """Forget."""
        self._check(request)
        asked = _asked(await _body(request, _ASKED_BYTES), Reset)
        rows = await self._learned.reset(Choice(asked.what, asked.models, asked.classes))
        return _done("reset", rows=rows)

    async def freeze(self, request: Request) -> Response:
        """Learn nothing from here on."""
        self._check(request)
        asked = _asked(await _body(request, _ASKED_BYTES), Freeze)
        held = await self._learned.freeze(FROZEN_BY_DEFAULT if asked.what is None else asked.what, thaw=False)
        return _done("frozen", frozen=held)

    async def thaw(self, request: Request) -> Response:
        """Learn again."""
        self._check(request)
        asked = _asked(await _body(request, _ASKED_BYTES), Freeze)
        held = await self._learned.freeze(PORTABLE if asked.what is None else asked.what, thaw=True)
        return _done("thawed", frozen=held)


async def _body(request: Request, limit_bytes: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("Send the header Content-Type: application/json.", code="unsupported_media_type")
    return await read_limited(dict(request.headers.raw), request.receive, limit_bytes)


def _asked(body: bytes, kind: type[_S]) -> _S:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            f"What is asked for cannot be read: {error}. `what` is a list of {', '.join(Part)}."
        ) from None


def _chosen(query: QueryParams) -> Choice:
    what = query.getlist("what")
    unknown = [word for word in what if word not in set(Part)]
    if unknown:
        raise RequestError(f"Unknown: what={unknown[0]}. Choose among {', '.join(Part)}.", param="what")
    parts = tuple(map(Part, what)) or PORTABLE
    return Choice(parts, tuple(query.getlist("model")), tuple(query.getlist("class")))


def _done(done: str, **told: object) -> Response:
    return Response(msgspec.json.encode({"object": "learned", "done": done, **told}), media_type="application/json")
