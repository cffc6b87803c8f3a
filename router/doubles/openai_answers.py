"""What the OpenAI double is told to do, and the bytes it says it with."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

_encode = msgspec.json.encode


class ToolUse(Struct, frozen=True):
    """A tool call at the end of an answer; `arguments` are the pieces of its JSON text as they are streamed."""

    id: str
    name: str
    arguments: tuple[str, ...]


class Answer(Struct, frozen=True):
    """What a call that goes well gives. Token counts of `None` are one a piece, and one for the input. `logprob` is
    told of each piece to those who ask for log-probabilities."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    finish_reason: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    reports_usage: bool = True
    logprob: float | None = None


def words(n: int) -> Answer:
    """An answer of n words, a piece each."""
    return Answer(pieces=tuple(f"word{i} " for i in range(n)))


class Refusal(Struct, frozen=True):
    """An error response. `raw` replaces the OpenAI error body, for gateways that answer in their own way."""

    status: int
    code: str | None = None
    type: str = "server_error"
    message: str = "refused by the double"
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None


class How(StrEnum):
    """How an answer breaks."""

    CUT = "cut"
    GARBAGE = "garbage"
    ERROR = "error"
    SILENT_END = "silent_end"
    HANG = "hang"


class Break(Struct, frozen=True):
    """Where and how an answer breaks: after so many pieces of a stream, before the body of a whole one."""

    how: How
    after: int = 0


class Call(Struct, frozen=True):
    """A request the double received."""

    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(slots=True)
class Script:
    """Mutable orders, read at each call, and a record of what came.

    Of `kv_tokens` in its KV cache, calls under way hold `held_tokens` (instant ones hold none). With `tells_load` off
    /metrics is not found; else it tells its load or what `page` has, `page_after_s` late; `asked` counts how often.
    `refuse_next` is used up call by call, then `refuse` holds for all. A `gap_s` of `None` sends all pieces in
    one write, 0 a write each. `connections` are open now, `accepted` counts all there were. `gone` counts
    clients that left before their answer was complete: acquire it to wait for one.
    """

    answer: Answer = field(default_factory=lambda: words(8))
    refuse: Refusal | None = None
    refuse_next: deque[Refusal] = field(default_factory=deque)
    breaks: Break | None = None
    first_token_s: float = 0.0
    gap_s: float | None = None
    ignores_stream: bool = False
    keeps_calls: bool = True
    kv_tokens: int = 100_000
    held_tokens: int = 0
    tells_load: bool = True
    page: bytes | None = None
    page_after_s: float = 0.0
    asked: int = 0
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=1000))
    served: int = 0
    serving: int = 0
    connections: int = 0
    accepted: int = 0
    gone: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @property
    def load_page(self) -> bytes:
        """Its load in the names of vLLM, as `/metrics` tells it; it takes in whatever comes, so that nothing waits."""
        told = (
            ("num_requests_running", "Number of requests in model execution batches.", self.serving),
            ("num_requests_waiting", "Number of requests waiting to be processed.", 0),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", self.held_tokens / self.kv_tokens),
        )
        lines = (
            f"# HELP vllm:{name} {text}\n# TYPE vllm:{name} gauge\n"
            f'vllm:{name}{{engine="0",model_name="double"}} {float(value)}\n'
            for name, text, value in told
        )
        return "".join(lines).encode() if self.page is None else self.page

    def next_refusal(self) -> Refusal | None:
        """What this call is refused with, if it is."""
        return self.refuse_next.popleft() if self.refuse_next else self.refuse

    @property
    def is_instant(self) -> bool:
        """Whether an answer can be given in one go."""
        return self.breaks is None and self.first_token_s == 0 and self.gap_s is None


def usage(answer: Answer) -> dict[str, object]:
    """The tokens of an answer as OpenAI reports them."""
    taken = 1 if answer.input_tokens is None else answer.input_tokens
    said = answer.output_tokens
    given = len(answer.pieces) + len(answer.reasoning) if said is None else said
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }


@lru_cache(maxsize=64)
def whole_body(answer: Answer, model: str) -> bytes:
    """The chat.completion."""
    message: dict[str, object] = {"role": "assistant", "content": "".join(answer.pieces) or None}
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.tools:
        message["tool_calls"] = [_tool_call(tool, "".join(tool.arguments)) for tool in answer.tools]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(answer.pieces, answer.logprob),
        "finish_reason": answer.finish_reason,
    }
    body = {**_head("chat.completion", model), "choices": [choice]}
    if answer.reports_usage:
        body["usage"] = usage(answer)
    return _encode(body)


@lru_cache(maxsize=64)
def chunk_bodies(answer: Answer, model: str, *, with_usage: bool) -> tuple[bytes, ...]:
    """The data of every event of a stream up to `[DONE]`: the role, a chunk for each piece, the end."""
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in answer.reasoning]
    said = range(len(deltas), len(deltas) + len(answer.pieces))
    deltas += [{"content": piece} for piece in answer.pieces]
    for index, tool in enumerate(answer.tools):
        deltas.append({"tool_calls": [{"index": index, **_tool_call(tool, "")}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": a}}]} for a in tool.arguments]
    choices = [_choice(delta, None) for delta in deltas]
    for at in said:
        choices[at]["logprobs"] = _logprobs((str(deltas[at]["content"]),), answer.logprob)
    chunks = [_chunk(model, [choice]) for choice in choices]
    chunks.append(_chunk(model, [_choice({}, answer.finish_reason)]))
    if with_usage and answer.reports_usage:
        chunks.append(_chunk(model, [], usage=usage(answer)))
    return (*(_encode(chunk) for chunk in chunks), b"[DONE]")


def refusal_body(refusal: Refusal) -> bytes:
    """The body of an error response, or of an error in a stream."""
    if refusal.raw is not None:
        return refusal.raw
    error = {"message": refusal.message, "type": refusal.type, "param": None, "code": refusal.code}
    return _encode({"error": error})


def _head(kind: str, model: str) -> dict[str, object]:
    return {"id": "chatcmpl-double", "object": kind, "created": 0, "model": model}


def _chunk(model: str, choices: Sequence[object], **more: object) -> dict[str, object]:
    return {**_head("chat.completion.chunk", model), "choices": choices, **more}


def _logprobs(pieces: Sequence[str], logprob: float | None) -> dict[str, object] | None:
    if logprob is None:
        return None
    return {"content": [{"token": piece, "logprob": logprob, "top_logprobs": []} for piece in pieces]}


def _choice(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _tool_call(tool: ToolUse, arguments: str) -> dict[str, object]:
    return {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": arguments}}
