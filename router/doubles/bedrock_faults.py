"""What the Bedrock double is told to do: answers, refusals, breaks, and what it has seen."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct


class ToolUse(Struct, frozen=True):
    """A tool call in an answer; `arguments` are the pieces of its JSON text as they are streamed."""

    id: str
    name: str
    arguments: tuple[str, ...]


class Answer(Struct, frozen=True):
    """What a call that goes well gives. Token counts of `None` are counted from the texts, one a piece."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    stop_reason: str = "end_turn"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    routed_to: str | None = None
    """The model that a prompt router says it invoked."""


def words(n: int) -> Answer:
    """An answer of n words, a piece each."""
    return Answer(pieces=tuple(f"word{i} " for i in range(n)))


class Refusal(Struct, frozen=True):
    """An error answer: a code of the service model, e.g. `ThrottlingException`; its status is modelled."""

    code: str
    message: str = "refused by the double"
    retry_after: str | None = None


class How(StrEnum):
    """How a stream breaks."""

    EXCEPTION = "exception"
    CUT = "cut"
    GARBAGE = "garbage"
    SILENT_END = "silent_end"
    HANG = "hang"


class Break(Struct, frozen=True):
    """Where and how a stream breaks: after so many pieces. `exception` names the in-stream exception.

    A call without a stream has no pieces: it hangs, or is cut, before its answer.
    """

    how: How
    after: int = 0
    exception: str = "modelStreamErrorException"


class Call(Struct, frozen=True):
    """A request the double received. `model_id` is decoded; `region` is the one it was signed for."""

    operation: str
    model_id: str
    body: dict[str, object]
    region: str


@dataclass(slots=True)
class Script:
    """Mutable orders, read at each call, and a record of what came.

    `refuse_next` is used up call by call, then `refuse` holds for all. `gone` counts clients that left before
    their answer was complete: acquire it to wait for one.
    """

    answer: Answer = field(default_factory=lambda: words(8))
    refuse: Refusal | None = None
    refuse_next: deque[Refusal] = field(default_factory=deque)
    breaks: Break | None = None
    first_token_s: float = 0.0
    gap_s: float = 0.0
    calls: list[Call] = field(default_factory=list)
    serving: int = 0
    gone: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def next_refusal(self) -> Refusal | None:
        """What this call is refused with, if it is."""
        return self.refuse_next.popleft() if self.refuse_next else self.refuse
