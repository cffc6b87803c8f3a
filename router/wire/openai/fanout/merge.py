"""The request that makes one answer of the parts': a prompt with places for what they said.

`{{parts[0]}}` is the answer of the first part, `{{parts}}` are all, each under a heading. Where neither stands in the
prompt, all are added at its end. What an answer says is text: a place in it is not filled in again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from router.domain.errors import RequestError
from router.domain.request import Request
from router.wire.openai.fanout.asked import MERGE
from router.wire.openai.fanout.pattern import Fields, Pattern

_PLACE = re.compile(r"\{\{\s*parts\s*(?:\[\s*(\d{1,6})\s*\])?\s*\}\}")
_FORMS = "`merge` takes a prompt as text, or an object with one of `content` (the prompt) and `messages`"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_object = msgspec.json.Decoder(Fields)
_text = msgspec.json.Decoder(str)
_messages = msgspec.json.Decoder(list[dict[str, Any]])
_encode = msgspec.json.Encoder().encode

Message = dict[str, Any]
"""A message of the conversation, in any of its forms."""


class Merge:
    """A merge that has been checked: with any answers it makes a request that can be read."""

    def __init__(self, pattern: Pattern, own: Fields, *, parts: int, stream: bool) -> None:
        """`RequestError` where the prompt names a part that there is not, or is no prompt."""
        self._pattern, self._own, self._stream = pattern, own, stream
        self._before: list[Raw] = []
        if "content" in own:
            self._before = pattern.before_question()
            question = b'[{"role":"user","content":%b}]' % bytes(own["content"])
            self._prompt = _read_messages(Raw(question))
        else:
            self._prompt = _read_messages(own["messages"])
        self._check_places(parts)
        self.request(("",) * parts, arrived=0.0, at=0.0)

    def _check_places(self, parts: int) -> None:
        def check(found: re.Match[str]) -> str:
            if found[1] is not None and int(found[1]) >= parts:
                raise RequestError(f"{found[0]}: there are {parts} parts, the first is 0", param=MERGE)
            return ""

        for message in self._prompt:
            _rewritten(message, lambda text: _PLACE.sub(check, text))

    def request(self, answers: Sequence[str], *, arrived: float, at: float) -> Request:
        """The request with the answers in place, as if it had come now."""
        filled = [*self._before, *_filled(self._prompt, answers)]
        own = {name: value for name, value in self._own.items() if name != "content"}
        own["messages"] = Raw(_encode(filled))
        made = self._pattern.request(MERGE, own, where=MERGE)
        return replace(made, arrived=arrived, at=at, stream=self._stream)


def asked_merge(raw: Raw) -> Fields | None:
    """The fields of a merge's own; `None` where none is asked for."""
    if bytes(raw) in (b"null", b"false"):
        return None
    try:
        own = _object.decode(raw) if bytes(raw)[:1] == b"{" else _from_text(_text.decode(raw))
    except _UNREADABLE:
        raise RequestError(_FORMS, param=MERGE) from None
    if ("content" in own) == ("messages" in own):
        raise RequestError(_FORMS, param=MERGE)
    return own


def _from_text(text: str) -> Fields:
    """OpenAI's own metadata takes text only: an object may come as text, and any other text is the prompt."""
    if text.lstrip().startswith("{"):
        try:
            return _object.decode(text)
        except _UNREADABLE:
            pass
    return {"content": Raw(_encode(text))}


def _read_messages(raw: Raw) -> list[Message]:
    try:
        return _messages.decode(raw)
    except _UNREADABLE:
        raise RequestError("merge: messages is not a list of messages", param=f"{MERGE}.messages") from None


def _filled(prompt: Sequence[Message], answers: Sequence[str]) -> list[Message]:
    count = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return sections(answers) if found[1] is None else answers[int(found[1])]

    filled = [_rewritten(message, lambda text: _PLACE.sub(fill, text)) for message in prompt]
    if count == 0:
        return _with_all(filled, sections(answers))
    return filled


def sections(answers: Sequence[str]) -> str:
    """All answers, each under its number."""
    return "\n\n".join([f"[part {index}]\n{answer}" for index, answer in enumerate(answers)])


def _with_all(prompt: list[Message], answers: str) -> list[Message]:
    """The answers at the end of the last message, where that is the user's, else in a message of their own."""
    if prompt and prompt[-1].get("role") == "user":
        *before, last = prompt
        content = last.get("content")
        if isinstance(content, str):
            longer: object = f"{content}\n\n{answers}" if content.strip() else answers
        elif isinstance(content, list):
            longer = [*content, {"type": "text", "text": answers}]
        else:
            longer = content
        return [*before, {**last, "content": longer}]
    return [*prompt, {"role": "user", "content": answers}]


def _rewritten(message: Message, rewrite: Callable[[str], str]) -> Message:
    """The message with every text of its content rewritten."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": rewrite(content)}
    if isinstance(content, list):
        return {**message, "content": [_rewritten_part(part, rewrite) for part in content]}
    return message


def _rewritten_part(part: Any, rewrite: Callable[[str], str]) -> Any:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return {**part, "text": rewrite(part["text"])}
    return part
