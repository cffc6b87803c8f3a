"""What a call asks a model, whichever operation and whichever family's spelling it came by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from router.doubles.aws.call import Json
from router.doubles.aws.runtime.cache import Prefix, digest_of

_SAID = frozenset({"text", "description", "prompt", "inputText", "content"})
"""Members whose words are counted, where they are plain texts."""


class Prompt(Struct, frozen=True):
    """`tokens` are the words of every text. `prefixes` end at the cache points, in order."""

    texts: tuple[str, ...]
    tokens: int
    prefixes: tuple[Prefix, ...] = ()
    max_tokens: int | None = None


def read_prompt(body: Json, max_tokens: int | None) -> Prompt:
    """The prompt of a body: tools, then system prompt, then messages, which is the order of the prompt cache.

    Cache points are Converse's blocks `cachePoint` and the `cache_control` of Anthropic's blocks. What comes before one
    is the same prefix wherever other points are.
    """
    texts: list[str] = []
    prefixes: list[Prefix] = []
    digest, tokens = b"", 0
    for block in _blocks(body):
        point = block.get("cachePoint") if isinstance(block, dict) else None
        if point is None:
            said = list(_texts(block))
            texts += said
            tokens += sum(len(text.split()) for text in said)
            told = block
            if isinstance(block, dict) and "cache_control" in block:
                point = block["cache_control"]
                told = {name: member for name, member in block.items() if name != "cache_control"}
            digest = digest_of(msgspec.json.encode(told, order="sorted"), digest)
        if point is not None:
            prefixes.append(Prefix(digest, tokens, point.get("ttl", "5m")))
    return Prompt(tuple(texts), tokens, tuple(prefixes), max_tokens)


def _blocks(body: Json) -> Iterator[Any]:
    """The parts of a prompt that a cache point may follow, in order."""
    yield from body.get("toolConfig", {}).get("tools", ())
    yield from body.get("tools", ())
    system = body.get("system", ())
    yield from ({"text": system},) if isinstance(system, str) else system
    for message in body.get("messages", ()):
        yield {"role": message.get("role")}
        content = message.get("content") or ()
        yield from ({"text": content},) if isinstance(content, str) else content
    for name in ("prompt", "inputText"):
        if name in body:
            yield {name: body[name]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name in _SAID and isinstance(member, str):
                yield member
            else:
                yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
