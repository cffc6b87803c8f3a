"""What a server may tell of its own load. The local ledger stays the truth; this only corrects it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from router.domain.deployment import TelemetryTerms
from router.domain.view import ScrapedLoad
from router.wire.server_metrics import NoLoad, ServerLoad

__all__ = ["LoadReader", "LoadSource", "ScrapedLoad"]


class LoadSource(Protocol):
    """Something that can be polled."""

    async def poll(self) -> tuple[ScrapedLoad, ...]:
        """The latest figures; empty when there are none."""
        ...


class LoadReader(Protocol):
    """Asks one server at a time."""

    async def read(self, terms: TelemetryTerms, ca_file: str | None) -> ServerLoad | NoLoad:
        """What the server tells, or why nothing; never raises for what a server does. `ca_file` holds the authority to
        trust."""
        ...

    def forget(self, files: Collection[str]) -> None:
        """These files hold something else now."""
        ...

    async def close(self) -> None:
        """Free connections."""
        ...
