"""`top_k` as a sender wrote it: OpenAI has no such field, so bodies carry it unread."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from router.domain.errors import Refused


def sent_top_k(raw: Raw) -> int | None:
    """The sender's own; other servers take 0 or -1 for none. `Refused` where it is not a whole number."""
    try:
        value: int | None = msgspec.json.decode(bytes(raw) or b"null", type=int | None)
    except msgspec.DecodeError:
        raise Refused("top_k is not a whole number", param="top_k") from None
    return value
