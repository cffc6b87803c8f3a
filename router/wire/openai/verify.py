"""How the sender says what its answer must be like, and what an answer says that can be checked.

`metadata.verify` is an object, or JSON text that holds one, since OpenAI's own metadata takes text only:
`{"json_schema": {...}, "regex": "...", "callback": "TOPIC"}`. It is for the router and does not go upstream.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import RequestError
from router.domain.request import Request

_PARAM = "metadata.verify"
_MAX_BYTES = 16_384


class _Metadata(Struct, frozen=True):
    verify: Raw = Raw()


class Verify(Struct, frozen=True, forbid_unknown_fields=True):
    """What the sender asks of its answer: a JSON schema, a pattern that must be found in the text, and the MQTT topic
    of somebody who says whether it will do."""

    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    callback: str | None = None


class _JsonFormat(Struct, frozen=True):
    schema: dict[str, Any] | None = None


class _Format(Struct, frozen=True):
    type: str = "text"
    json_schema: _JsonFormat | None = None


class _Body(Struct, frozen=True):
    response_format: _Format | None = None


class _Logprob(Struct, frozen=True):
    logprob: float


class _Logprobs(Struct, frozen=True):
    content: list[_Logprob] | None = None


class _Message(Struct, frozen=True):
    content: Any = None
    refusal: str | None = None


class _Choice(Struct, frozen=True):
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class Answer(Struct, frozen=True):
    """What can be checked of an answer. `text` is `None` where it has none, as a tool call; `logprob` is the mean
    natural logarithm of the probability of its tokens."""

    text: str | None
    refusal: bool = False
    finish_reason: str | None = None
    logprob: float | None = None


_metadata = msgspec.json.Decoder(_Metadata)
_verify = msgspec.json.Decoder(Verify)
_text = msgspec.json.Decoder(str)
_body = msgspec.json.Decoder(_Body)
_choices = msgspec.json.Decoder(list[_Choice])
_object = msgspec.json.Decoder(dict[str, Raw])
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_encode = msgspec.json.Encoder().encode


def asked_checks(metadata: Raw) -> bytes:
    """The JSON of `metadata.verify`, read no further; empty where there is none."""
    raw = bytes(metadata)
    if b'"verify"' not in raw:
        return b""
    try:
        return bytes(_metadata.decode(raw).verify)
    except (msgspec.DecodeError, RecursionError):
        return b""


def without_checks(fields: dict[str, object]) -> None:
    """Take `metadata.verify` out of a body that goes upstream; metadata that held nothing else goes too."""
    metadata = fields.get("metadata")
    if isinstance(metadata, Raw):
        kept = {name: value for name, value in _object.decode(metadata).items() if name != "verify"}
        if kept:
            fields["metadata"] = kept
        else:
            del fields["metadata"]


def read_verify(request: Request) -> Verify:
    """What the sender asks of its answer; raises `RequestError` where that cannot be read."""
    raw = request.verify
    if not raw or raw == b"null":
        return Verify()
    if len(raw) > _MAX_BYTES:
        raise RequestError(f"metadata.verify is over {_MAX_BYTES} bytes: shorten the schema", param=_PARAM)
    try:
        return _verify.decode(_text.decode(raw) if raw.startswith(b'"') else raw)
    except (msgspec.DecodeError, RecursionError) as error:
        taken = "`json_schema` (an object), `regex` and `callback` (text), as an object or as JSON text"
        raise RequestError(f"metadata.verify takes {taken}: {error}", param=_PARAM) from None


def asked_schema(request: Request) -> dict[str, Any] | None:
    """The schema under `response_format`, where it holds one."""
    try:
        wanted = _body.decode(request.payload).response_format
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if wanted is None or wanted.json_schema is None else wanted.json_schema.schema


def read_answer(choices: bytes) -> Answer | None:
    """The first of the choices of a complete answer; `None` where they cannot be read."""
    try:
        choice = _choices.decode(choices)[0]
    except (msgspec.DecodeError, IndexError, RecursionError):
        return None
    message = choice.message or _Message()
    text = message.content if isinstance(message.content, str) and message.content else None
    tokens = None if choice.logprobs is None else choice.logprobs.content
    mean = sum(token.logprob for token in tokens) / len(tokens) if tokens else None
    return Answer(text, bool(message.refusal), choice.finish_reason, mean)


def without_logprobs(choices: bytes) -> bytes:
    """Choices of an answer or of a piece of one for a sender who asked for no log-probabilities."""
    if b'"logprobs"' not in choices:
        return choices
    try:
        found = _objects.decode(choices)
    except (msgspec.DecodeError, RecursionError):
        return choices
    return _encode([choice | {"logprobs": None} if "logprobs" in choice else choice for choice in found])
