"""Models behind SageMaker endpoints, through InvokeEndpoint and InvokeEndpointWithResponseStream.

The deployment's `target` is the endpoint's name; its `aws` terms say how the container speaks (see
`router.wire.aws.sagemaker`), which variant or inference component is asked for, and whether a conversation keeps to one
instance. The variant that answered is told with every answer. Batch deployments are sent one list of inputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from router.backends.aws.errors import backend_error
from router.backends.aws.sessions import Clients
from router.backends.aws.sticky_sessions import NEW_SESSION, StickySessions
from router.domain.aws.terms import AwsTerms, Payload
from router.domain.deployment import Address
from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, TimedOut
from router.domain.outcome import Attempt, Delta
from router.wire.aws.sagemaker.request import Json, TextCall, batches, chat_body, payload_of, text_call
from router.wire.aws.sagemaker.response import read_text, read_texts
from router.wire.aws.sagemaker.stream import ChatReader, PartReader, TokenReader
from router.wire.openai import read_response

_SERVICE = "sagemaker-runtime"
_NO_TERMS = AwsTerms()


class _StreamException(Struct, frozen=True):
    ErrorCode: str | None = None


_exception_decoder = msgspec.json.Decoder(_StreamException)


class SageMakerBackend:
    """Calls endpoints. JumpStart's containers answer whole; the others stream where the attempt asks for it."""

    def __init__(self, clients: Clients | None = None, sessions: StickySessions | None = None) -> None:
        self._clients = clients if clients is not None else Clients()
        self._sessions = sessions if sessions is not None else StickySessions()

    async def open(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        """Start the call and stream its answer."""
        payload = payload_of(attempt.deployment)
        session = self._sessions.of(attempt)
        streams = attempt.stream and payload is not Payload.JUMPSTART and session != NEW_SESSION
        asked = attempt if streams == attempt.stream else replace(attempt, stream=False)
        text = None if payload is Payload.OPENAI else _text_call(asked, payload)
        body = chat_body(asked) if text is None else text.body(stream=streams)
        call = _arguments(attempt.deployment.address, body, session)
        async with _bounded(attempt):
            client = await self._clients.client(_SERVICE, attempt.deployment.address)
        try:
            if not streams:
                yield await self._whole(client, call, attempt, text)
                return
            async with aclosing(_stream(client, call, attempt, text)) as stream:
                async for delta in stream:
                    yield delta
        except Refused as error:
            raise self._ended(attempt, session, error) from error

    async def run_batch(self, attempts: tuple[Attempt, ...]) -> tuple[Delta | BackendError, ...]:
        """All of it in one call; one call after another for each set of parameters, which hold for a whole list. What
        was answered before one of them failed is paid, and is given out."""
        address = attempts[0].deployment.address
        payload = payload_of(attempts[0].deployment)
        if payload is Payload.OPENAI:
            message = "chat completions are not taken by the list: write `payload: jumpstart` for a batch endpoint"
            raise Refused(message, code="unsupported")
        calls = [_text_call(attempt, payload) for attempt in attempts]
        patient = max(attempts, key=lambda attempt: attempt.deadline or float("inf"))
        async with _bounded(patient):
            client = await self._clients.client(_SERVICE, address)
        found: dict[int, Delta | BackendError] = {}
        for places, body in batches(calls):
            try:
                async with _bounded(patient):
                    response = await client.invoke_endpoint(**_arguments(address, body, None))
                    said = await _read(response)
                answers = read_texts(said, [calls[place] for place in places])
            except BackendError as error:
                if not found:
                    raise
                found |= {place: error for place in range(len(attempts)) if place not in found}
                break
            served_as = response.get("InvokedProductionVariant")
            found |= {i: replace(one, served_as=served_as) for i, one in zip(places, answers, strict=True)}
        return tuple(found[place] for place in range(len(attempts)))

    def forget(self, files: Collection[str]) -> None:
        """These certificate authorities are others now: make new clients. Calls under way end on the old ones."""
        self._clients.forget(files)

    async def close(self) -> None:
        """Free connections; called once at shutdown."""
        await self._clients.close()

    async def _whole(self, client: Any, call: Json, attempt: Attempt, text: TextCall | None) -> Delta:
        async with _bounded(attempt):
            response = await client.invoke_endpoint(**call)
            body = await _read(response)
        if (opened := response.get("NewSessionId")) is not None:
            self._sessions.opened(attempt, opened)
        if "ClosedSessionId" in response:
            self._sessions.closed(attempt)
        answer = read_response(body) if text is None else read_text(body, text)
        return replace(answer, served_as=response.get("InvokedProductionVariant"))

    def _ended(self, attempt: Attempt, session: str | None, error: Refused) -> BackendError:
        """A refusal that is about the session and not about the request: the next call opens another one."""
        if session in {None, NEW_SESSION} or "session" not in error.message.lower():
            return error
        self._sessions.closed(attempt)
        return Overloaded(f"the endpoint holds this session no longer: {error.message}")


class _ErrorCodes:
    """The SDK's parser of a stream, which drops the `ErrorCode` of a ModelStreamError: it says whether the model took
    too long or the connection broke."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser

    async def parse(self, response: Json, shape: Any) -> Json:
        """One event or exception."""
        parsed: Json = await self._parser.parse(response, shape)
        if response["headers"].get(":exception-type") == "ModelStreamError":
            parsed["ErrorCode"] = _exception_decoder.decode(response["body"]).ErrorCode
        return parsed


async def _stream(client: Any, call: Json, attempt: Attempt, text: TextCall | None) -> AsyncGenerator[Delta, None]:
    async with _bounded(attempt):
        response = await client.invoke_endpoint_with_response_stream(**call)
    content_type = response.get("ContentType")
    reader: PartReader = ChatReader(content_type) if text is None else TokenReader(content_type, text)
    with closing(response["Body"]) as stream:
        stream._parser = _ErrorCodes(stream._parser)
        yield Delta(served_as=response.get("InvokedProductionVariant"))
        parts = aiter(stream)
        while True:
            async with _bounded(attempt, reader):
                event = await anext(parts, None)
            if event is None:
                break
            for delta in reader.feed(_bytes(event)):
                yield delta
    if not reader.ended:
        raise ProtocolError("the stream ended before the answer did")


def _text_call(attempt: Attempt, payload: Payload) -> TextCall:
    if payload not in {Payload.TGI, Payload.JUMPSTART}:
        raise Refused(f"SageMaker endpoints are not spoken to as {payload}", code="backend_forbidden")
    return text_call(attempt, payload)


def _arguments(address: Address, body: bytes, session: str | None) -> Json:
    terms = address.aws or _NO_TERMS
    optional = {
        "TargetVariant": terms.variant,
        "InferenceComponentName": terms.component,
        "SessionId": session,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return {"EndpointName": address.target, "Body": body, "ContentType": "application/json", **given}


async def _read(response: Json) -> bytes:
    async with response["Body"] as body:
        said: bytes = await body.read()
    return said


def _bytes(event: Json) -> bytes:
    part: bytes = event.get("PayloadPart", {}).get("Bytes", b"")
    return part


@asynccontextmanager
async def _bounded(attempt: Attempt, reader: PartReader | None = None) -> AsyncIterator[None]:
    """One wait for the SDK: ends by the deadline, and raises nothing but `BackendError`."""
    try:
        async with asyncio.timeout_at(attempt.deadline) as limit:
            yield
    except Exception as error:
        if limit.expired():
            raise TimedOut("the deadline passed during the call", code="timeout_deadline") from error
        raise backend_error(error, begun=reader is not None and reader.begun, service="SageMaker") from error
