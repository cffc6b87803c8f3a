"""Between the two forms of an answer: streamed pieces into one message, and one message into pieces.

Both work on the JSON as it is, so fields that the router has never heard of survive: strings of the same name
join, lists of objects with an `index` merge by it, other lists grow, anything else is replaced by the latest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from router.domain.outcome import Delta

_REPLACED = frozenset({"role", "id", "type", "index", "name", "finish_reason"})
"""Strings that name something and so come once, or come again the same."""
_decode = msgspec.json.decode
_encode = msgspec.json.encode

Json = dict[str, Any]
"""An answer of any shape, as far as this file looks."""


class _Pieces:
    """A string under construction, joined once at the end."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[str] = []


def assemble(deltas: Sequence[Delta]) -> bytes:
    """The choices array of the complete response; a whole piece is the answer itself."""
    choices: dict[int, Json] = {}
    for delta in deltas:
        if delta.whole:
            return delta.choices
        if delta.choices == b"[]":
            continue
        for choice in _decode(delta.choices):
            _merge(choices.setdefault(choice.get("index", 0), {}), choice)
    return _encode([_finished(index, choices[index]) for index in sorted(choices)])


def _merge(into: Json, piece: Json) -> None:
    for key, value in piece.items():
        known = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and key not in _REPLACED:
            if not isinstance(known, _Pieces):
                into[key] = known = _Pieces()
            known.parts.append(value)
        elif isinstance(value, dict):
            if not isinstance(known, dict):
                into[key] = known = {}
            _merge(known, value)
        elif isinstance(value, list):
            if not isinstance(known, list):
                into[key] = known = []
            _merge_list(known, value)
        else:
            into[key] = value


def _merge_list(into: list[Any], items: list[Any]) -> None:
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if index is None:
            into.append(item)
            continue
        known = next((one for one in into if isinstance(one, dict) and one.get("index") == index), None)
        if known is None:
            known = {}
            into.append(known)
        _merge(known, item)


def _finished(index: int, choice: Json) -> Json:
    delta = _joined(choice.pop("delta", None) or {})
    message = {"role": "assistant", "content": None, **delta}
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
    rest = _joined(choice)
    rest.setdefault("logprobs", None)
    return {**rest, "index": index, "message": message, "finish_reason": rest.get("finish_reason") or "stop"}


def _joined(value: Any) -> Any:
    if isinstance(value, _Pieces):
        return "".join(value.parts)
    if isinstance(value, dict):
        return {key: _joined(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_joined(one) for one in value]
    return value


def dissolve(choices: bytes) -> list[bytes]:
    """Complete choices as the choices of two chunks: what was said, and how it ended."""
    said, ended = [], []
    for number, choice in enumerate(_decode(choices)):
        index = choice.get("index", number)
        delta = choice.get("message") or {}
        for position, call in enumerate(delta.get("tool_calls") or ()):
            call["index"] = position
        logprobs = choice.get("logprobs")
        said.append({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None})
        reason = choice.get("finish_reason") or "stop"
        ended.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": reason})
    return [_encode(said), _encode(ended)]
