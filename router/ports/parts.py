"""What a request in parts needs so that a crash does not have it pay for its finished parts again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from router.domain.outcome import Receipt, Usage


class KeptPart(Struct, frozen=True):
    """The answer of a part: `choices` is the JSON array of a complete OpenAI response."""

    choices: bytes
    usage: Usage
    receipt: Receipt
    finish_reason: str | None


class KeptParts(Protocol):
    """Answers of parts by the key of their request and a digest of what the part asks. What a full disk loses is money
    and no answer: nothing here raises."""

    async def keep(self, whole: str, part: bytes, answer: KeptPart) -> None:
        """Write an answer; returns when it outlives the process."""
        ...

    async def recall(self, whole: str) -> Mapping[bytes, KeptPart]:
        """What an earlier life of the process kept of a request."""
        ...

    async def release(self, whole: str) -> None:
        """The request is answered: soon nobody will ask for its parts."""
        ...
