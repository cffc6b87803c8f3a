"""What a backend may tell of its own load. The local ledger stays the truth; this only corrects it."""

from __future__ import annotations

from typing import Protocol

from router.domain.view import ScrapedLoad

__all__ = ["LoadSource", "ScrapedLoad"]


class LoadSource(Protocol):
    """Something that can be polled."""

    async def poll(self) -> tuple[ScrapedLoad, ...]:
        """The latest figures; empty when there are none."""
        ...
