"""From a request that asks for parts to the requests they are."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from router.domain.errors import RequestError
from router.domain.request import Request
from router.wire.openai.fanout.asked import PARTS
from router.wire.openai.fanout.merge import Merge, asked_merge
from router.wire.openai.fanout.pattern import Fields, Pattern

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_object = msgspec.json.Decoder(Fields)
_list = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


class Plan(Struct, frozen=True):
    """The parts in order, each a request of its own, and what is made of their answers."""

    parts: tuple[Request, ...]
    merge: Merge | None


def read_plan(request: Request, *, most: int) -> Plan:
    """The plan of a request that asks for parts, at most so many; `RequestError` says what is wrong and where."""
    pattern = Pattern(request)
    listed = _listed(pattern.parts)
    if not listed:
        raise RequestError(f"{PARTS} is empty: list at least one part, or leave it out", param=PARTS)
    if len(listed) > most:
        message = f"{PARTS} lists {len(listed)} parts; {most} are allowed (`fanout_parts` of the policy's `bounds`)"
        raise RequestError(message, param=PARTS)
    own = asked_merge(pattern.merge)
    parts = tuple(_part(pattern, index, raw) for index, raw in enumerate(listed))
    return Plan(parts, None if own is None else Merge(pattern, own, parts=len(parts), stream=request.stream))


def _listed(raw: Raw) -> list[Raw]:
    """A list, or JSON text that holds one: OpenAI's own metadata takes text only."""
    try:
        return _list.decode(_text.decode(raw) if bytes(raw)[:1] == b'"' else raw)
    except _UNREADABLE:
        message = f"{PARTS} is a list of questions, or JSON text that holds one; a question is text or an object"
        raise RequestError(message, param=PARTS) from None


def _part(pattern: Pattern, index: int, raw: Raw) -> Request:
    where = f"{PARTS}[{index}]"
    try:
        own = {"content": raw} if bytes(raw)[:1] == b'"' else _object.decode(raw)
    except _UNREADABLE:
        raise RequestError(f"{where} is neither text nor an object", param=where) from None
    if ("content" in own) == ("messages" in own):
        raise RequestError(f"{where} needs either `content` (the question) or `messages`", param=where)
    if "content" in own:
        question = {"role": "user", "content": own["content"]}
        rest = {name: value for name, value in own.items() if name != "content"}
        own = {**rest, "messages": Raw(_encode([*pattern.before_question(), question]))}
    return pattern.request(str(index), own, where=where)
