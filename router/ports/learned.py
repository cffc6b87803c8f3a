"""What an ingress may ask of what was learned."""

from __future__ import annotations

from typing import Protocol

from router.core.learned.rows import Choice
from router.domain.learned import Part


class LearnedState(Protocol):
    """Each change is in the checkpoint when the call returns, and is told by an event."""

    def page(self) -> bytes:
        """What is known, for people, as JSON."""
        ...

    def export(self, choice: Choice | None) -> bytes:
        """What is known, for another router, as a document."""
        ...

    async def reset(self, choice: Choice) -> int:
        """Forget; how many rows that was. Raises `RequestError`."""
        ...

    async def freeze(self, parts: tuple[Part, ...], *, thaw: bool) -> tuple[Part, ...]:
        """Learn nothing of these parts from here on, or again; what is frozen now. Raises `RequestError`."""
        ...

    async def take_in(self, document: bytes, choice: Choice) -> tuple[str, ...]:
        """Take up a document whole or not at all; the models and deployments it was about. Raises `RequestError` or
        `RouterError` (`invalid_checkpoint`)."""
        ...
