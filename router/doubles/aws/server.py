"""The HTTP side of the double: every service on one loopback port, found by the scope of the signature.

`async with aws_double(World()) as double:` and point clients at `double.url`. Requests for S3, SQS and CloudWatch are
passed on to moto's server when the world was started with `stores=True`. Signatures must be there; their arithmetic
is not checked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from aiohttp import web
from botocore import xform_name
from botocore.model import OperationModel, ServiceModel
from multidict import CIMultiDict

from router.doubles.aws.bedrock_control import BedrockControl
from router.doubles.aws.call import HEADERS, AwsError, Call, Cut, Garbage, Json
from router.doubles.aws.console.admin import ADMIN_PATH, answer_admin
from router.doubles.aws.console.metrics import published
from router.doubles.aws.faults import Fault, How, take
from router.doubles.aws.protocol.checking import violation
from router.doubles.aws.protocol.models import find_operation, service_model
from router.doubles.aws.protocol.reading import read_parameters
from router.doubles.aws.protocol.writing import Written, write_answer, write_error, write_event, write_exception
from router.doubles.aws.runtime.service import BedrockRuntime
from router.doubles.aws.sagemaker_control import SageMakerControl
from router.doubles.aws.sagemaker_runtime.service import SageMakerRuntime
from router.doubles.aws.stores import STORES, Stores, stores_server
from router.doubles.aws.sts import Sts
from router.doubles.aws.world import World

SERVICES: tuple[Callable[[World], Any], ...] = (BedrockRuntime, SageMakerRuntime, Sts, BedrockControl, SageMakerControl)
"""The services of the double, a line each."""

_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request, ")
_MOST_BYTES = 2**28
"""Of a body: pictures, and what is put into S3."""
_PIECES = frozenset({"contentBlockDelta", "chunk", "PayloadPart"})
_NOT_A_FRAME = b"\x00\x00\x00\x20 this is not an event-stream frame "


class AwsDouble:
    """`url` to point clients at, `world` to look into and to order about."""

    def __init__(self, world: World, stores: Stores | None) -> None:
        self.url = ""
        self.world = world
        self._stores = stores
        services = [make(world) for make in SERVICES]
        self._services = {service.service: service for service in services}
        self._by_scope: dict[str, list[str]] = {}
        for name in self._services:
            self._by_scope.setdefault(service_model(name).signing_name, []).append(name)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        request = request.clone(client_max_size=_MOST_BYTES)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        path, _, query = request.raw_path.partition("?")
        if path == ADMIN_PATH:
            return await answer_admin(self.world, request)
        scope = _SCOPE.match(request.headers.get("Authorization", ""))
        if scope is None:
            return _whole(
                write_error(None, AwsError("MissingAuthenticationTokenException", "the request is not signed"))
            )
        if scope[3] in STORES:
            return await self._store(scope[3], request)
        model: ServiceModel | None = None
        call: Call | None = None
        self.world.serving += 1
        try:
            operation, params = await self._read(scope[3], path, query, request)
            model = operation.service_model
            account = self.world.account_of(scope[1])
            call = Call(model.service_name, operation.name, params, scope[2], account)
            return await self._answer(operation, call, request)
        except AwsError as error:
            self.world.refuse(error.code, call)
            return _whole(write_error(model or self._model(scope[3]), error))
        except Cut:
            return _cut(request)
        except (asyncio.CancelledError, ConnectionError):
            self.world.gone.release()
            raise
        finally:
            self.world.serving -= 1

    def _model(self, scope: str) -> ServiceModel | None:
        names = self._by_scope.get(scope)
        return None if names is None else service_model(names[0])

    async def _store(self, scope: str, request: web.BaseRequest) -> web.StreamResponse:
        if self._stores is not None:
            return await self._stores.forward(request)
        message = f"{scope} is not served: start the double with its stores"
        return _whole(write_error(None, AwsError("UnknownOperationException", message)))

    async def _read(self, scope: str, path: str, query: str, request: web.BaseRequest) -> tuple[OperationModel, Json]:
        body = await request.read()
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if request.content_type == "application/x-www-form-urlencoded":
            asked |= dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        target = request.headers.get("X-Amz-Target")
        for service in self._by_scope.get(scope, ()):
            found = find_operation(service, request.method, path, target, asked.get("Action"))
            if found is not None:
                operation, places = found
                return operation, read_parameters(operation, places, asked, CIMultiDict(request.headers), body)
        raise AwsError("UnknownOperationException", f"no operation of {scope} is asked for by {request.method} {path}")

    async def _answer(self, operation: OperationModel, call: Call, request: web.BaseRequest) -> web.StreamResponse:
        self.world.calls.append(call)
        fault = take(self.world.faults, call)
        if fault is not None and fault.how is How.REFUSE:
            raise fault.error()
        problem = violation(operation.input_shape, call.params)
        if problem is not None:
            raise AwsError("ValidationException", problem)
        handler = getattr(self._services[call.service], xform_name(operation.name), None)
        if handler is None:
            raise AwsError("UnknownOperationException", f"the double does not do {operation.name}")
        members = {name: value for name, value in (await handler(call)).items() if value is not None}
        further = members.pop(HEADERS, {})
        written = self._written(operation, members)
        if written.stream is None:
            await _instead(fault)
            written.headers.update(further)
            return _whole(written)
        return await self._stream(operation, written, members[written.stream], fault, request)

    def _written(self, operation: OperationModel, members: Json) -> Written:
        """The answer in bytes, once it is known to fit the model: a handler that drifts is found out here."""
        checked = {name: {} if _is_stream(operation, name) else value for name, value in members.items()}
        problem = violation(operation.output_shape, checked)
        if problem is not None:
            raise self.world.drifted(f"{operation.name}: {problem}")
        return write_answer(operation, members)

    async def _stream(
        self, operation: OperationModel, written: Written, events: Any, fault: Fault | None, request: web.BaseRequest
    ) -> web.StreamResponse:
        shape = operation.output_shape.members[written.stream]
        response = web.StreamResponse(headers=written.headers | _request_id())
        await response.prepare(request)
        pieces = 0
        try:
            async for item in events:
                if isinstance(item, AwsError):
                    raise item
                name, members = item
                pieces += name in _PIECES
                if fault is not None and (pieces > fault.after or name == "messageStop"):
                    if fault.how is How.SILENT_END:
                        break
                    await _break(fault)
                problem = violation(shape.members[name], members)
                if problem is not None:
                    raise self.world.drifted(f"{operation.name}, event {name}: {problem}")
                await response.write(write_event(shape, name, members))
        except AwsError as error:
            await response.write(write_exception(shape, error))
        except Garbage:
            await response.write(_NOT_A_FRAME)
        finally:
            await events.aclose()
        await response.write_eof()
        return response


@asynccontextmanager
async def aws_double(world: World | None = None, *, port: int = 0, stores: bool = False) -> AsyncIterator[AwsDouble]:
    """Serve on a loopback port (a free one unless told) until the block ends; then drop every connection.

    `stores`: also serve S3, SQS and CloudWatch, by moto, which the extra `aws-double` installs.
    """
    world = world if world is not None else World()
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(stores_server()) if stores else None
        double = AwsDouble(world, kept)
        server = web.Server(double.handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, bound = runner.addresses[0][:2]
        double.url = f"http://{host}:{bound}"
        world.s3_url = kept.url if kept is not None else None
        if kept is not None:
            await stack.enter_async_context(published(world, kept.url))
        yield double


def _is_stream(operation: OperationModel, name: str) -> bool:
    shape = operation.output_shape
    return bool(name in shape.members and shape.members[name].serialization.get("eventstream"))


def _whole(written: Written) -> web.Response:
    return web.Response(body=written.body, status=written.status, headers=written.headers | _request_id())


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid4())}


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _instead(fault: Fault | None) -> None:
    """What comes where a whole answer should be: a call without a stream has no bytes to spoil, and is cut."""
    if fault is not None and fault.how in {How.EXCEPTION, How.HANG}:
        await _break(fault)
    if fault is not None:
        raise Cut


async def _break(fault: Fault) -> None:
    """Raise what breaks the call; hanging ends with the client."""
    if fault.how is How.EXCEPTION:
        raise fault.error()
    if fault.how is How.CUT:
        raise Cut
    if fault.how is How.GARBAGE:
        raise Garbage
    await asyncio.Event().wait()
