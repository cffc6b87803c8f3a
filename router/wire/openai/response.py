"""What an upstream answers, as `Delta`s; and choices of the router's own making."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, Throttled, TimedOut, named
from router.domain.outcome import Delta, Usage
from router.wire.openai.request import CHARS_PER_TOKEN, ToolCall

_TOKEN_CHARS = 20
"""A streamed piece up to this long is taken for one token, as it is where a server streams token by token."""


class _CachedTokens(Struct, frozen=True):
    cached_tokens: int | None = None


class UsageBody(Struct, frozen=True):
    """`usage` as upstreams report it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None

    def usage(self) -> Usage:
        """The domain's own."""
        details = self.prompt_tokens_details
        return Usage(
            input_tokens=self.prompt_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            cached_tokens=(details.cached_tokens or 0) if details is not None else 0,
        )


class _Body(Struct, frozen=True):
    """Chunk or response; `choices` and `error` stay as they came (empty where absent)."""

    choices: Raw = Raw()
    usage: UsageBody | None = None
    model: str | None = None
    error: Raw = Raw()
    service_tier: str | None = None


class _Call(Struct, frozen=True):
    class Function(Struct, frozen=True):
        name: str | None = None
        arguments: str | None = None

    function: Function | None = None


class _Said(Struct, frozen=True):
    """The text in a delta or a message; vLLM names its reasoning both ways."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None

    def chars(self) -> int:
        size = len(self.content or "") + len(self.reasoning_content or self.reasoning or "") + len(self.refusal or "")
        for call in self.tool_calls or ():
            if call.function is not None:
                size += len(call.function.name or "") + len(call.function.arguments or "")
        return size


class _Choice(Struct, frozen=True):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Finish(Struct, frozen=True):
    finish_reason: str | None = None


class _ErrorBody(Struct, frozen=True):
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


_body_decoder = msgspec.json.Decoder(_Body)
_choices_decoder = msgspec.json.Decoder(list[_Choice])
_finish_decoder = msgspec.json.Decoder(list[_Finish])
_error_decoder = msgspec.json.Decoder(_ErrorBody | str)
_encode = msgspec.json.Encoder().encode
_ABSENT = (b"", b"null")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _read(data: bytes) -> _Body:
    try:
        if not data.isascii():
            data.decode()
        body = _body_decoder.decode(data)
    except _UNREADABLE as error:
        raise ProtocolError(f"the upstream's JSON cannot be read: {error}") from None
    error_json = bytes(body.error)
    if error_json not in _ABSENT:
        raise error_of(error_json)
    return body


def error_of(error: bytes) -> BackendError:
    """The `error` value of an upstream's body as the router's error, by its code and type alone."""
    try:
        read = _error_decoder.decode(error)
    except _UNREADABLE:
        return ProtocolError("the upstream reported an error that cannot be read")
    body = _ErrorBody(message=read) if isinstance(read, str) else read
    message = body.message or "the upstream reported an error"
    said = f"{body.code or ''} {body.type or ''}".lower()
    for words, kind in _ERROR_KINDS:
        if any(word in said for word in words):
            return _named(kind(message, param=body.param), body)
    return _named(BackendError(message), body)


def _named(error: BackendError, body: _ErrorBody) -> BackendError:
    error.said = named(None, body.code or body.type)
    return error


_ERROR_KINDS: tuple[tuple[tuple[str, ...], type[BackendError]], ...] = (
    (("429", "rate_limit", "quota", "throttl"), Throttled),
    (("503", "529", "overloaded", "unavailable"), Overloaded),
    (("408", "504", "timeout"), TimedOut),
    (
        ("400", "401", "403", "404", "413", "422", "invalid", "authentication", "permission", "badrequest"),
        Refused,
    ),
)


def read_chunk(data: bytes) -> Delta:
    """One `data:` value of a stream; raises a `BackendError`, also for an error object in the stream."""
    body = _read(data)
    usage = body.usage.usage() if body.usage is not None else None
    choices = bytes(body.choices)
    if choices in _ABSENT:
        if usage is None:
            raise ProtocolError("a chunk of the upstream has neither choices nor usage")
        return Delta(usage=usage, served_model=body.model, served_as=body.service_tier)
    try:
        parsed = _choices_decoder.decode(choices)
    except _UNREADABLE as error:
        raise ProtocolError(f"the upstream's choices cannot be read: {error}") from None
    return Delta(
        choices=choices,
        tokens=sum([_piece_tokens(choice.delta) for choice in parsed]),
        finish_reason=_first_reason(parsed),
        usage=usage,
        served_model=body.model,
        served_as=body.service_tier,
    )


def read_response(body: bytes) -> Delta:
    """A complete response; tokens are estimated where it has no `usage`. Raises a `BackendError`."""
    read = _read(body)
    choices = bytes(read.choices)
    try:
        parsed: Sequence[_Choice | _Finish]
        if read.usage is not None:
            usage = read.usage.usage()
            tokens = usage.output_tokens
            parsed = _finish_decoder.decode(choices)
        else:
            usage = None
            parsed = answers = _choices_decoder.decode(choices)
            tokens = ceil(sum(a.message.chars() for a in answers if a.message is not None) / CHARS_PER_TOKEN)
    except _UNREADABLE as error:
        raise ProtocolError(f"the upstream's choices cannot be read: {error}") from None
    if not parsed:
        raise ProtocolError("the upstream's response has no choices")
    return Delta(
        choices=choices,
        tokens=tokens,
        finish_reason=_first_reason(parsed) or "stop",
        usage=usage,
        whole=True,
        served_model=read.model,
        served_as=read.service_tier,
    )


def _piece_tokens(said: _Said | None) -> int:
    chars = said.chars() if said is not None else 0
    if chars <= _TOKEN_CHARS:
        return 1 if chars else 0
    return ceil(chars / CHARS_PER_TOKEN)


def _first_reason(choices: Iterable[_Choice | _Finish]) -> str | None:
    for choice in choices:
        if choice.finish_reason:
            return choice.finish_reason
    return None


class _NewMessage(Struct, frozen=True):
    """A delta or a message that the router itself writes."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    tool_calls: Sequence[object] | UnsetType = UNSET


class _NewDelta(Struct, frozen=True):
    delta: _NewMessage
    finish_reason: str | None
    index: int = 0


class _NewChoice(Struct, frozen=True):
    message: _NewMessage
    finish_reason: str
    logprobs: None = None
    index: int = 0


class ToolCallPiece(Struct, frozen=True, omit_defaults=True):
    """A piece of one tool call: first `id`, `type` and the function's name, then its arguments."""

    class Function(Struct, frozen=True, omit_defaults=True):
        """`arguments` is a fragment of a JSON text."""

        name: str | None = None
        arguments: str | None = None

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None


def delta_choices(
    text: str = "",
    *,
    role: bool = False,
    finish_reason: str | None = None,
    tool_calls: Sequence[ToolCallPiece] = (),
) -> bytes:
    """The choices of one chunk, for backends that do not speak OpenAI."""
    delta = _NewMessage(
        role="assistant" if role else UNSET,
        content=text if text or role else UNSET,
        tool_calls=tool_calls or UNSET,
    )
    return _encode([_NewDelta(delta, finish_reason)])


def whole_choices(text: str, finish_reason: str, *, tool_calls: Sequence[ToolCall] = ()) -> bytes:
    """The choices of a complete response, for backends that do not speak OpenAI."""
    content = None if tool_calls and not text else text
    message = _NewMessage(role="assistant", content=content, tool_calls=tool_calls or UNSET)
    return _encode([_NewChoice(message, finish_reason)])
