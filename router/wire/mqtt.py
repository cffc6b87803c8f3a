"""The queue's side of a request: MQTT topics and user properties to fields and back. Pure.

A request carries its idempotency key in the user property `request-id`. Without one the id is a digest of
topic, Response Topic, Correlation Data and payload: the same for a redelivery, which the broker marks, so
that even then nothing is paid twice; the ingress gives a fresh id to an unmarked message of equal content.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from router.domain.errors import RequestError, RouterError
from router.domain.outcome import Receipt
from router.wire.mqtt_packet import Publish
from router.wire.openai import receipt_fields

T = TypeVar("T")
Properties = tuple[tuple[str, str], ...]

TOPIC_BYTES = 1024
"""Longest topic, asked on or answered to: MQTT allows 65,535, brokers far less (AWS IoT Core 256)."""
ID_CHARS = 256
"""Longest request id, tenant, class or traceparent."""
PROPERTIES_MAX = 64
PROPERTIES_BYTES = 16 * 1024
REASON_CHARS = 300
"""Longest text about an error in a user property; the error body holds the whole."""


class Fields(Struct, frozen=True):
    """What the user properties of a request say. `attributes` are those that have no meaning here."""

    request_id: str | None = None
    tenant: str = "default"
    request_class: str | None = None
    priority: int | None = None
    traceparent: str | None = None
    attributes: Properties = ()


class Feedback(Struct, frozen=True):
    """How good an answer was."""

    decision_id: Annotated[str, Meta(min_length=1, max_length=ID_CHARS)]
    quality: Annotated[float, Meta(ge=0, le=1)]


class Cancel(Struct, frozen=True):
    """Which request is taken back."""

    request_id: str
    tenant: str


class _CancelBody(Struct, frozen=True):
    request_id: Annotated[str, Meta(min_length=1, max_length=ID_CHARS)]
    tenant: Annotated[str, Meta(min_length=1, max_length=ID_CHARS)] | None = None


class _Verdict(Struct, frozen=True):
    passed: bool


_read_cancel = msgspec.json.Decoder(_CancelBody).decode
_read_verdict = msgspec.json.Decoder(_Verdict).decode
_read_feedback = msgspec.json.Decoder(Feedback).decode
_KNOWN = frozenset(("request-id", "tenant", "class", "priority", "traceparent"))


def read_fields(properties: Properties) -> Fields:
    """Sort user properties; of a repeated one the first counts. `RequestError` says which is wrong."""
    if not properties:
        return Fields()
    known: dict[str, str] = {}
    attributes = []
    size = 0
    for name, value in properties:
        size += len(name) + len(value)
        if name not in _KNOWN:
            attributes.append((name, value))
        elif value and known.setdefault(name, value) and len(value) > ID_CHARS:
            raise RequestError(f"user property {name} is longer than {ID_CHARS} characters", param=name)
    if len(properties) > PROPERTIES_MAX or size > PROPERTIES_BYTES:
        raise RequestError(f"more than {PROPERTIES_MAX} user properties or {PROPERTIES_BYTES} bytes of them")
    return Fields(
        request_id=known.get("request-id"),
        tenant=known.get("tenant", "default"),
        request_class=known.get("class"),
        priority=_priority(known.get("priority")),
        traceparent=known.get("traceparent"),
        attributes=tuple(attributes),
    )


def _priority(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 4):
        raise RequestError(
            f"user property priority is not a whole number of at most four digits: {text[:32]}", param="priority"
        )
    return int(text)


def content_id(message: Publish) -> str:
    """The id of a message that carries none: equal for equal content."""
    digest = blake2b(digest_size=16)
    parts = (
        message.topic.encode(),
        (message.response_topic or "").encode(),
        message.correlation_data or b"",
        message.payload,
    )
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"auto-{digest.hexdigest()}"


def topic_problem(topic: str | None) -> str | None:
    """Why nothing can be published to a topic, or `None` if it can."""
    if not topic:
        return "there is no Response Topic"
    if "+" in topic or "#" in topic:
        return "the Response Topic has a wildcard"
    if not _is_plain(topic):
        return "the Response Topic has characters that MQTT does not allow"
    if len(topic.encode()) > TOPIC_BYTES:
        return f"the Response Topic is longer than {TOPIC_BYTES} bytes"
    return None


def request_problem(message: Publish, max_body_bytes: int) -> RequestError | None:
    """What is wrong with a message before its body is looked at."""
    if message.problem is not None:
        return RequestError(message.problem)
    if len(message.topic.encode()) > TOPIC_BYTES:
        return RequestError(f"the topic is longer than {TOPIC_BYTES} bytes", param="topic")
    if len(message.payload) > max_body_bytes:
        size = len(message.payload)
        return RequestError(f"the body has {size} bytes; {max_body_bytes} are allowed", code="body_too_large")
    return None


def reply_properties(request_id: str, receipt: Receipt, *, is_opening: bool = False) -> Properties:
    """User properties of an answer, or of a stream's first piece."""
    fields = [(f"router-{name}", value) for name, value in receipt_fields(receipt, is_opening=is_opening)]
    fields.insert(0, ("request-id", request_id))
    if _is_plain("".join([value for _, value in fields])):
        return tuple(fields)
    return tuple((name, clean(value)) for name, value in fields)


def error_properties(request_id: str | None, error: RouterError) -> Properties:
    """User properties of an error reply."""
    fields = [("router-code", error.code)]
    if request_id is not None:
        fields.insert(0, ("request-id", clean(request_id)))
    if error.retry_after_s is not None:
        fields.append(("router-retry-after-s", f"{error.retry_after_s:.3f}"))
    return tuple(fields)


def piece_properties(seq: int, *, is_final: bool, is_restarted: bool) -> Properties:
    """User properties of one piece of a stream. Restarted: a crash cut an earlier sending short; start anew."""
    fields = (("seq", str(seq)), ("final", "true" if is_final else "false"))
    return (*fields, ("router-restarted", "true")) if is_restarted else fields


def dead_letter_properties(message: Publish, error: RouterError) -> Properties:
    """User properties of a dead letter: why it is one, where it came from, and what it carried, within limits."""
    own = (
        ("reason", clean(error.message[:REASON_CHARS])),
        ("code", error.code),
        ("original-topic", clean(message.topic[:TOPIC_BYTES])),
    )
    carried = ((name[:ID_CHARS], value[:ID_CHARS]) for name, value in message.properties[:PROPERTIES_MAX])
    return own + tuple((clean(name), clean(value)) for name, value in carried)


def read_feedback(payload: bytes) -> Feedback:
    """`{"decision_id": "...", "quality": 0..1}`; `RequestError` if it is not."""
    return _read("feedback", _read_feedback, payload)


def read_cancel(message: Publish) -> Cancel:
    """By the user properties `request-id` and `tenant` of the request, or `{"request_id": "...", "tenant": "..."}`, of
    which a property `tenant` may stand for the second; `RequestError` if it is neither."""
    if message.problem is not None:
        raise RequestError(message.problem)
    fields = read_fields(message.properties)
    if fields.request_id is not None:
        return Cancel(fields.request_id, fields.tenant)
    body = _read("cancel", _read_cancel, message.payload)
    return Cancel(body.request_id, body.tenant or fields.tenant)


def question_properties(request_id: str, decision_id: str, deployment: str) -> Properties:
    """User properties of an answer that somebody is asked about."""
    fields = (("request-id", request_id), ("router-decision-id", decision_id), ("router-deployment", deployment))
    return tuple((name, clean(value)) for name, value in fields)


def question_payload(request_id: str, decision_id: str, choices: bytes) -> bytes:
    """An answer that somebody is asked about: `choices` as in an OpenAI response."""
    return msgspec.json.encode({"request_id": request_id, "decision_id": decision_id, "choices": msgspec.Raw(choices)})


def read_verdict(payload: bytes) -> bool:
    """`{"passed": true}` or `{"passed": false}`; `RequestError` if it is neither."""
    return _read("verdict", _read_verdict, payload).passed


def _read(what: str, decode: Callable[[bytes], T], payload: bytes) -> T:
    try:
        payload.decode()
        return decode(payload)
    except msgspec.ValidationError as error:
        raise RequestError(f"{what}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{what} is not JSON: {error}", code="invalid_json") from None


def clean(text: str) -> str:
    """Text that every broker takes as a string: some close the connection over a control character."""
    return text if _is_plain(text) else "".join(char if _is_plain(char) else "\ufffd" for char in text)


def _is_plain(text: str) -> bool:
    """No control characters, surrogates or code points that are no characters (section 1.5.4)."""
    if text.isascii():
        return text.isprintable()
    return not any(_is_forbidden(ord(char)) for char in text)


def _is_forbidden(code: int) -> bool:
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000
        or 0xFDD0 <= code < 0xFDF0
        or code & 0xFFFE == 0xFFFE
    )
