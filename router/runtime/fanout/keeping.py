"""What is kept of a journalled request's parts while it is answered, and recalled where a crash cut it off."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from msgspec.structs import replace

from router.domain.outcome import Reply
from router.domain.request import Request
from router.ports.parts import KeptPart, KeptParts


class Keeping:
    """The parts of one request. Without a store, or for a request that no journal carries on, nothing is kept."""

    def __init__(self, store: KeptParts | None, whole: Request) -> None:
        self._store, self._whole = store, f"{whole.tenant}\0{whole.id}"
        self._is_cut = whole.attempts_before > 0
        self._known: Mapping[bytes, KeptPart] = {}

    async def open(self) -> None:
        """Look up what an earlier life of the process kept, if one made calls for this request."""
        if self._store is not None and self._is_cut:
            self._known = await self._store.recall(self._whole)

    def known(self, part: Request) -> Reply | None:
        """The answer that was kept: paid before, by calls that the request's `attempts_before` counts."""
        kept = self._known.get(_digest(part)) if self._known else None
        if kept is None:
            return None
        receipt = replace(kept.receipt, attempts=0)
        return Reply(part, kept.choices, kept.usage, receipt, int(part.at), kept.finish_reason)

    async def keep(self, part: Request, reply: Reply) -> None:
        """Returns when the answer outlives the process."""
        if self._store is not None:
            answer = KeptPart(reply.choices, reply.usage, reply.receipt, reply.finish_reason)
            await self._store.keep(self._whole, _digest(part), answer)

    async def release(self) -> None:
        """The request is answered."""
        if self._store is not None:
            await self._store.release(self._whole)


def _digest(part: Request) -> bytes:
    """Of its place and of all that it asks: another body under the same request id recalls nothing."""
    return blake2b(part.id.encode() + b"\0" + part.payload, digest_size=16).digest()
