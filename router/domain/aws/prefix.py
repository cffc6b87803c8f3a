"""Where a prompt may be cut so that what comes before can be kept by the service."""

from __future__ import annotations

from msgspec import Struct


class Cut(Struct, frozen=True, gc=False):
    """The start of a prompt: tools, system prompt, and the first `messages` of the others. `tokens` is how many it
    has, as we count, `digest` tells it from every other."""

    messages: int
    tokens: int
    digest: bytes
