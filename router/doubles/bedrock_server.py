"""A Bedrock runtime on loopback for the real SDK: Converse, ConverseStream, InvokeModel, CountTokens.

Real HTTP, real event-stream frames, signatures required (their scope, not their arithmetic), requests held to
the service model. What it answers, refuses and breaks is in its `Script`; no model runs. For tests and
development.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from router.doubles import event_stream
from router.doubles.bedrock_answers import converse_answer, count_tokens, invoke_answer, stream_frames
from router.doubles.bedrock_faults import Break, Call, How, Refusal, Script
from router.doubles.bedrock_rules import status_of, violation

_OPERATIONS = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
    "count-tokens": "CountTokens",
}
_PATH = re.compile(r"/model/([^/]+)/(converse|converse-stream|invoke|count-tokens)")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([a-z0-9-]+)/bedrock/aws4_request, ")


class BedrockServer:
    """One double: `url` to point the SDK at, `script` to order it about."""

    def __init__(self, url: str, script: Script) -> None:
        self.url = url
        self.script = script

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request as the script says."""
        call = _signed_call(request.raw_path, request.headers.get("Authorization", ""), await request.read())
        if isinstance(call, Refusal):
            return _refuse(call)
        self.script.calls.append(call)
        self.script.serving += 1
        try:
            refusal = self.script.next_refusal() or _invalid(call)
            return _refuse(refusal) if refusal is not None else await self._serve(request, call)
        except (asyncio.CancelledError, ConnectionError):
            self.script.gone.release()
            raise
        finally:
            self.script.serving -= 1

    async def _serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        answer = self.script.answer
        if call.operation == "ConverseStream":
            return await self._stream(request, call)
        if call.operation == "CountTokens":
            return _json({"inputTokens": count_tokens(call.body)})
        await asyncio.sleep(self.script.first_token_s)
        if self.script.breaks is not None:
            await _break(self.script.breaks, request, None)
        if call.operation == "InvokeModel":
            return _json(invoke_answer(answer, call.body))
        return _json(converse_answer(answer, call.body))

    async def _stream(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        script = self.script
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await response.prepare(request)
        pieces = 0
        for name, body in stream_frames(script.answer, call.body):
            if name == "contentBlockDelta":
                await asyncio.sleep(script.gap_s if pieces else script.first_token_s)
                pieces += 1
            if script.breaks is not None and (pieces > script.breaks.after or name == "messageStop"):
                return await _break(script.breaks, request, response)
            await response.write(event_stream.event(name, body))
        await response.write_eof()
        return response


@asynccontextmanager
async def bedrock_server(script: Script | None = None) -> AsyncIterator[BedrockServer]:
    """Serve on a free loopback port until the block ends; then drop every connection."""
    double = BedrockServer("", script or Script())
    server = web.Server(double.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        double.url = f"http://{host}:{port}"
        yield double
    finally:
        await runner.cleanup()


def _signed_call(path: str, authorization: str, body: bytes) -> Call | Refusal:
    match = _PATH.fullmatch(path)
    if match is None:
        return Refusal("UnknownOperationException", "no such operation")
    scope = _SCOPE.match(authorization)
    if scope is None:
        return Refusal("MissingAuthenticationTokenException", "the request is not signed for bedrock")
    operation = _OPERATIONS[match[2]]
    try:
        parsed = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refusal("SerializationException", "the body is not a JSON object")
    arguments: dict[str, Any] = {"body": body} if operation == "InvokeModel" else parsed
    return Call(operation=operation, model_id=unquote(match[1]), body=arguments, region=scope[1])


def _invalid(call: Call) -> Refusal | None:
    problem = violation(call.operation, call.model_id, call.body)
    return None if problem is None else Refusal("ValidationException", problem)


def _refuse(refusal: Refusal) -> web.Response:
    headers = {"x-amzn-ErrorType": f"{refusal.code}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = refusal.retry_after
    return _json({"message": refusal.message}, status_of(refusal.code), headers)


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


async def _break(order: Break, request: web.BaseRequest, response: web.StreamResponse | None) -> web.StreamResponse:
    """End a call the wrong way; `response` is the begun stream, if any. Hanging ends with the client."""
    if order.how is How.HANG:
        await asyncio.Event().wait()
    if order.how is How.CUT or response is None:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if order.how is How.EXCEPTION:
        await response.write(event_stream.exception(order.exception, "broken by the double"))
    elif order.how is How.GARBAGE:
        await response.write(b"\x00\x00\x00\x20 this is not an event-stream frame ")
    await response.write_eof()
    return response
