"""One inference call as received."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

from msgspec import Struct

RequestId = NewType("RequestId", str)


class Capability(StrEnum):
    """What a request may need that not every deployment can do."""

    TOOLS = "tools"
    IMAGES = "images"
    JSON = "json"
    LOGPROBS = "logprobs"
    CHOICES = "choices"


class Prompt(Struct, frozen=True):
    """The part of a conversation that classification reads.

    `last_user` is what distinguishes one request from the next; a shared system prompt or few-shot prefix does
    not. `chars` counts every message.
    """

    last_user: str
    system: str = ""
    turns: int = 1
    chars: int = 0
    tools: int = 0
    images: int = 0
    json_output: bool = False


class Request(Struct, frozen=True):
    """A decoded request. `payload` is the OpenAI body as it came; nothing below `wire` looks inside it."""

    id: RequestId
    arrived: float
    at: float
    prompt: Prompt
    input_tokens: int
    payload: bytes = b""
    source: str = "http"
    tenant: str = "default"
    topic: str = ""
    model: str | None = None
    request_class: str | None = None
    priority: int | None = None
    deadline: float | None = None
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    needs: frozenset[Capability] = frozenset()
    traceparent: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    verify: bytes = b""
    """JSON of what the sender says of how to check the answer; empty where it says nothing."""
    subqueries: bool = False
    """Whether it lists parts that are to be answered each by itself."""
    parent: str = ""
    """Id of the request that this one is a part of, or merges the parts of."""
    attempts_before: int = 0
    """Calls that an earlier life of the process made for this request and a crash cut off."""
