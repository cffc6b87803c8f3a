"""Every route but the hot one: models, feedback, decisions, metrics and health, on Starlette."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from router.domain.errors import RequestError, RouterError
from router.ingress.admin.doorkeeper import Doorkeeper
from router.ingress.admin.learned import LearnedRoutes
from router.ingress.http_answers import HangUpError, error_headers, read_limited, status_of
from router.ingress.http_chat import FANOUT_PATH
from router.ports.dispatch import Dispatch
from router.ports.learned import LearnedState
from router.wire.openai import error_body

MetricsPage = Callable[[], tuple[bytes, str]]
"""The page and its content type."""
DecisionPage = Callable[[str], bytes | None]
"""The JSON of the decision with this id; `None` where it is unknown."""
PolicyPage = Callable[[], bytes]
"""The JSON of the policy in force, of its rollouts and of its budgets."""

CHAT_PATH = "/v1/chat/completions"
_FEEDBACK_BYTES = 64 * 1024


class Feedback(Struct, frozen=True):
    """The body of POST /v1/feedback. The id of the answer, `chatcmpl-...`, also names its decision."""

    decision_id: str
    quality: Annotated[float, Meta(ge=0, le=1)]


class _Model(Struct, frozen=True):
    id: str
    created: int
    owned_by: str
    object: str = "model"


class AdminRoutes:
    """The handlers. `started_at` is wall seconds, shown as the age of every model."""

    def __init__(
        self,
        dispatch: Dispatch,
        *,
        keys: Doorkeeper,
        metrics: MetricsPage,
        decisions: DecisionPage | None,
        policy: PolicyPage | None,
        learned: LearnedState | None = None,
        started_at: float,
    ) -> None:
        self._dispatch = dispatch
        self._keys = keys
        self._metrics = metrics
        self._decisions = decisions
        self._policy = policy
        self._learned = learned
        self._created = int(started_at)

    def app(self, chat: ASGIApp) -> Starlette:
        """The application. The chat routes stand in it too, so that a wrong method there gets its 405."""
        routes = [
            Route(CHAT_PATH, chat, methods=["POST"]),
            Route(FANOUT_PATH, chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/feedback", self.feedback, methods=["POST"]),
            Route("/v1/decisions/{decision_id}", self.decision),
            Route("/v1/policy", self.policy),
            Route("/metrics", self.metrics),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
        ]
        if self._learned is not None:
            routes += LearnedRoutes(self._learned, self._check_operator).routes()
        handlers = {HTTPException: _http_error, RouterError: _router_error, HangUpError: _hung_up}
        return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]

    async def models(self, request: Request) -> Response:
        """What may be asked for as `model`: auto, the classes, the models, the deployments."""
        self._check(request)
        return _json({"object": "list", "data": list(self._listed().values())})

    async def model(self, request: Request) -> Response:
        """One of them."""
        self._check(request)
        name = request.path_params["name"]
        found = self._listed().get(name)
        if found is None:
            raise RequestError("No model of that name is known here.", code="model_not_found", param="model")
        return _json(found)

    async def feedback(self, request: Request) -> Response:
        """Teach the quality of an answer."""
        self._check(request)
        headers = dict(request.headers.raw)
        body = await read_limited(headers, request.receive, _FEEDBACK_BYTES)
        try:
            said = msgspec.json.decode(body, type=Feedback)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"The feedback cannot be read: {error}") from None
        decision_id = said.decision_id.removeprefix("chatcmpl-")
        if not self._dispatch.feedback(decision_id, said.quality):
            raise RequestError("The decision is unknown or too old.", code="decision_not_found", param="decision_id")
        return _json({"object": "feedback", "decision_id": decision_id, "quality": said.quality})

    async def decision(self, request: Request) -> Response:
        """The evidence of one decision, whoever asked for it, since ids are numbers: for operators, where they have
        keys of their own."""
        self._keys.check_reader(dict(request.headers.raw))
        decision_id = request.path_params["decision_id"].removeprefix("chatcmpl-")
        page = self._decisions(decision_id) if self._decisions is not None else None
        if page is None:
            raise RequestError("The decision is unknown or too old.", code="decision_not_found")
        return Response(page, media_type="application/json")

    async def policy(self, request: Request) -> Response:
        """Which policy is in force, what became of the last edit, how rollouts, experiments and budgets stand: for
        operators, where they have keys of their own."""
        self._keys.check_reader(dict(request.headers.raw))
        if self._policy is None:
            raise RequestError("Nothing is told of the policy here.", code="not_found")
        return Response(self._policy(), media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        """For Prometheus."""
        page, content_type = await asyncio.to_thread(self._metrics)
        return Response(page, headers={"content-type": content_type})

    async def healthz(self, _: Request) -> Response:
        """The process lives."""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Whether traffic should come, and why not."""
        ready, detail = self._dispatch.is_ready()
        return _json({"ready": ready, "detail": detail}, status=200 if ready else 503)

    def _check(self, request: Request) -> None:
        self._keys.check(dict(request.headers.raw))

    def _check_operator(self, request: Request) -> None:
        self._keys.check_operator(dict(request.headers.raw))

    def _listed(self) -> dict[str, _Model]:
        models = [_Model("auto", self._created, "router")]
        models += [_Model(name, self._created, "router") for name in self._dispatch.classes()]
        deployments = self._dispatch.deployments()
        models += [_Model(d.model, self._created, "router") for d in deployments]
        models += [_Model(d.name, self._created, d.model) for d in deployments]
        return {model.id: model for model in models}


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _router_error(_: Request, error: RouterError) -> Response:
    body = error_body(error)
    headers = {name.decode(): value.decode() for name, value in error_headers(error, body)}
    return Response(body, status_code=status_of(error), headers=headers)


def _http_error(request: Request, error: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    response = _router_error(request, RequestError(f"{request.method} {request.url.path}: {error.detail}", code=code))
    response.headers.update(error.headers or {})
    return response


def _hung_up(_: Request, __: HangUpError) -> Response:
    return Response(status_code=499)
