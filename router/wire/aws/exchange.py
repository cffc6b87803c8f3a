"""One call to Bedrock's runtime: which operation, with which arguments, and how its answer is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from router.domain.aws.terms import Api, Payload
from router.domain.errors import Refused, RequestError
from router.domain.outcome import Attempt, Delta
from router.wire.aws.asked import converse_members, invoke_members, is_optimized, terms_of
from router.wire.aws.bedrock import converse_request
from router.wire.aws.bedrock_response import ConverseReader, read_converse
from router.wire.aws.invoke.families import FAMILIES, payload_of
from router.wire.aws.invoke.reader import ChatReader, InvokeReader
from router.wire.openai import read_body, upstream_body

Json = dict[str, Any]
_encode = msgspec.json.encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_NOT_IN_BODY = ("model", "stream", "stream_options", "service_tier")
"""What the operation or a header says where the body is passed through."""
_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


class Exchange(Protocol):
    """A call of `operation`, or of `stream_operation` whose events are in the member `events` of its response."""

    operation: str
    stream_operation: str
    events: str

    @property
    def begun(self) -> bool:
        """Whether a piece of the answer has come."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the answer's stop reason has come."""
        ...

    def arguments(self) -> Json:
        """The arguments of the operation."""
        ...

    def counted(self) -> Json:
        """The input of CountTokens."""
        ...

    def shorten(self, tokens: int) -> None:
        """Ask for an answer of no more tokens."""
        ...

    def read(self, event: Json, response: Json) -> Iterable[Delta]:
        """The pieces in an event; raises a `BackendError`."""
        ...

    def whole(self, response: Json, body: bytes) -> Delta:
        """The complete answer; raises a `BackendError`."""
        ...


def exchange_for(attempt: Attempt) -> Exchange:
    """The call that an attempt asks for; `Refused` for what the model behind it cannot be asked."""
    if terms_of(attempt).api is Api.CONVERSE:
        return Converse(attempt)
    payload = payload_of(attempt)
    return Chat(attempt) if payload is Payload.OPENAI else Invoke(attempt, payload)


class Converse:
    """Converse and ConverseStream."""

    operation = "converse"
    stream_operation = "converse_stream"
    events = "stream"

    def __init__(self, attempt: Attempt) -> None:
        self._asked = {**_asked(attempt), **converse_members(attempt)}
        self._optimized = is_optimized(attempt)
        self._reader = ConverseReader(optimized=self._optimized)

    @property
    def begun(self) -> bool:
        """Whether a piece of the answer has come."""
        return self._reader.begun

    @property
    def ended(self) -> bool:
        """Whether the answer's stop reason has come."""
        return self._reader.ended

    def arguments(self) -> Json:
        """The arguments of either operation."""
        return self._asked

    def counted(self) -> Json:
        """The conversation with its tools."""
        return {"converse": {name: self._asked[name] for name in _COUNTED if name in self._asked}}

    def shorten(self, tokens: int) -> None:
        """Ask for an answer of no more tokens."""
        _shorten(self._asked, tokens)

    def read(self, event: Json, response: Json) -> Iterable[Delta]:
        """The piece in an event, if it holds one."""
        piece = self._reader.read(event)
        return () if piece is None else (piece,)

    def whole(self, response: Json, body: bytes) -> Delta:
        """The complete answer."""
        return read_converse(response, optimized=self._optimized)


class _Passed:
    """InvokeModel and InvokeModelWithResponseStream."""

    operation = "invoke_model"
    stream_operation = "invoke_model_with_response_stream"
    events = "body"

    def __init__(self, attempt: Attempt, reader: InvokeReader | ChatReader) -> None:
        self._members = {"modelId": attempt.deployment.address.target, **invoke_members(attempt)}
        self._reader = reader

    @property
    def begun(self) -> bool:
        """Whether a piece of the answer has come."""
        return self._reader.begun

    @property
    def ended(self) -> bool:
        """Whether the answer's stop reason has come."""
        return self._reader.ended

    def arguments(self) -> Json:
        """The arguments of either operation."""
        return {**self._members, "body": self._body()}

    def counted(self) -> Json:
        """The body as it goes out."""
        return {"invokeModel": {"body": self._body()}}

    def read(self, event: Json, response: Json) -> Iterable[Delta]:
        """The pieces in a chunk."""
        return self._reader.read(event["chunk"]["bytes"], response) if "chunk" in event else ()

    def whole(self, response: Json, body: bytes) -> Delta:
        """The complete answer."""
        return self._reader.whole(body, response)

    def _body(self) -> bytes:
        raise NotImplementedError


class Invoke(_Passed):
    """A model with a body of its own, told in Converse's words."""

    def __init__(self, attempt: Attempt, payload: Payload) -> None:
        self._family = FAMILIES[payload]()
        self._asked = _asked(attempt if payload is Payload.ANTHROPIC else replace(attempt, cache_after=()))
        super().__init__(attempt, InvokeReader(self._family, optimized=is_optimized(attempt)))

    def shorten(self, tokens: int) -> None:
        """Ask for an answer of no more tokens."""
        _shorten(self._asked, tokens)

    def _body(self) -> bytes:
        return _encode(self._family.body(self._asked))


class Chat(_Passed):
    """A model that takes a chat completion as it is."""

    def __init__(self, attempt: Attempt) -> None:
        self._sent: dict[str, object] = dict(_fields(upstream_body(attempt)))
        for name in _NOT_IN_BODY:
            self._sent.pop(name, None)
        super().__init__(attempt, ChatReader(optimized=is_optimized(attempt)))

    def shorten(self, tokens: int) -> None:
        """Ask for an answer of no more tokens."""
        named = [name for name in ("max_completion_tokens", "max_tokens") if name in self._sent]
        self._sent |= dict.fromkeys(named or ("max_completion_tokens",), tokens)

    def _body(self) -> bytes:
        return _encode(self._sent)


def _asked(attempt: Attempt) -> Json:
    try:
        return converse_request(read_body(attempt.request.payload), attempt)
    except RequestError as error:
        raise Refused(error.message, code=error.code, param=error.param) from error


def _shorten(asked: Json, tokens: int) -> None:
    asked["inferenceConfig"] = {**asked.get("inferenceConfig", {}), "maxTokens": tokens}
