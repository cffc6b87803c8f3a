"""What a backend may tell of its own load. The local ledger stays the truth; this only corrects it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class ScrapedLoad(Struct, frozen=True):
    """A server's own account of itself, as of `observed` (monotonic seconds)."""

    deployment: str
    running: int
    waiting: int
    kv_ratio: float | None
    observed: float


class LoadSource(Protocol):
    """Something that can be polled."""

    async def poll(self) -> tuple[ScrapedLoad, ...]:
        """The latest figures; empty when there are none."""
        ...
