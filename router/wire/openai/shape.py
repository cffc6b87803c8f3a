"""What a class changes in a request before it is sent on: a longest prompt, and an instruction to be brief.

The payload is rewritten message by message; whatever stays is passed on as it came. Classification has read the
original before, and a journal keeps it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain, pairwise
from math import ceil

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from router.domain.request import Request
from router.domain.slo import RequestClass, Style
from router.wire.openai.request import MESSAGE_TOKENS, ChatBody, Message, prompt_tokens, read_body, text_tokens

INSTRUCTION = (
    "Be brief. Give the answer itself in as few words as it takes, without introduction, repetition or closing "
    "remarks. Where a format is asked for, keep to it."
)
"""What `style: concise` adds to the system prompt."""
INSTRUCTION_TOKENS = ceil(text_tokens(INSTRUCTION) + MESSAGE_TOKENS)
"""Estimated tokens that it adds at most: where it is a message of its own."""

Shaped = tuple[tuple[str, int], ...]
"""What was changed, and the input tokens that it saves."""

_PROMPTS = frozenset({"system", "developer"})
_RESULTS = frozenset({"tool", "function"})


class _Role(Struct, frozen=True):
    role: str


_role_decoder = msgspec.json.Decoder(_Role)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_list_decoder = msgspec.json.Decoder(list[Raw])
_content_decoder = msgspec.json.Decoder(str | list[Raw])
_encode = msgspec.json.Encoder().encode


def shape(request: Request, request_class: RequestClass) -> tuple[Request, Shaped]:
    """The request as it is sent on, and what was changed in it: `style`, `input_budget`, and `over_input_budget`
    where it is too long still, because the system prompt and the last turn alone are. `prompt` stays."""
    payload, tokens, budget = request.payload, request.input_tokens, request_class.input_budget_tokens
    changed: list[tuple[str, int]] = []
    if not payload:
        return request, ()
    if request_class.style is Style.CONCISE:
        payload, tokens = concise(payload), tokens + INSTRUCTION_TOKENS
        changed.append(("style", 0))
    if budget is not None and tokens > budget:
        payload, saved = trimmed(payload, budget_tokens=budget)
        tokens -= saved
        if saved:
            changed.append(("input_budget", saved))
        if tokens > budget:
            changed.append(("over_input_budget", 0))
    if not changed:
        return request, ()
    return replace(request, payload=payload, input_tokens=max(tokens, 1)), tuple(changed)


def trimmed(payload: bytes, *, budget_tokens: int) -> tuple[bytes, int]:
    """The payload without its oldest turns, as many as bring it within the budget, and the input tokens saved.

    Whole turns go, so that no tool result is left without its call. System and developer prompts stay, and so does
    the last turn, the last user message and all after it, even where these are over the budget by themselves.
    """
    body = read_body(payload)
    turns = _old_turns(body.messages)
    count = bisect_left(
        range(len(turns)), True, key=lambda n: prompt_tokens(_without(body, turns[:n])) <= budget_tokens
    )
    if count == 0:
        return payload, 0
    gone = frozenset(chain(*turns[:count]))
    fields, messages = _open(payload)
    fields["messages"] = Raw(_encode([raw for index, raw in enumerate(messages) if index not in gone]))
    return _encode(fields), prompt_tokens(body) - prompt_tokens(_without(body, turns[:count]))


def _without(body: ChatBody, turns: Sequence[Sequence[int]]) -> ChatBody:
    gone = frozenset(chain(*turns))
    return replace(body, messages=[message for index, message in enumerate(body.messages) if index not in gone])


def _old_turns(messages: Sequence[Message]) -> list[list[int]]:
    """The turns before the last, oldest first, as indexes of messages. A turn begins with a user message, except
    where a tool result comes before the assistant speaks again: it belongs to a call further up."""
    starts: list[int] = []
    is_owed = False
    for index in reversed(range(len(messages))):
        role = messages[index].role
        if role in _RESULTS:
            is_owed = True
        elif role == "assistant":
            is_owed = False
        elif role == "user" and not is_owed:
            starts.append(index)
    edges = [0, *reversed(starts)] if starts else []
    turns = (range(start, end) for start, end in pairwise(edges))
    return [kept for turn in turns if (kept := [i for i in turn if messages[i].role not in _PROMPTS])]


def concise(payload: bytes) -> bytes:
    """The payload with an instruction to be brief at the end of its system prompt, or as a system prompt."""
    fields, messages = _open(payload)
    place = -1
    while place + 1 < len(messages) and _role_decoder.decode(messages[place + 1]).role in _PROMPTS:
        place += 1
    if place < 0:
        messages.insert(0, Raw(_encode({"role": "system", "content": INSTRUCTION})))
    else:
        messages[place] = _extended(messages[place])
    fields["messages"] = Raw(_encode(messages))
    return _encode(fields)


def _extended(message: Raw) -> Raw:
    fields = _object_decoder.decode(message)
    content = _content_decoder.decode(fields["content"])
    if isinstance(content, str):
        longer: object = f"{content}\n\n{INSTRUCTION}" if content.strip() else INSTRUCTION
    else:
        longer = [*content, {"type": "text", "text": INSTRUCTION}]
    fields["content"] = Raw(_encode(longer))
    return Raw(_encode(fields))


def _open(payload: bytes) -> tuple[dict[str, Raw], list[Raw]]:
    fields = _object_decoder.decode(payload)
    return fields, _list_decoder.decode(fields["messages"])
