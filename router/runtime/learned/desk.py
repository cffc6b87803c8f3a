"""Changes to what a running router has learned: done between two decisions, and on disk before anybody is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import json

from router.core import snapshot
from router.core.controller import Controller
from router.core.learned.account import account
from router.core.learned.change import Learned
from router.core.learned.rows import Choice
from router.domain.learned import Part
from router.ports.clock import Clock


class Desk:
    """Implements `router.ports.learned.LearnedState`. `save` writes a checkpoint."""

    def __init__(self, controller: Controller, clock: Clock, save: Callable[[], Awaitable[None]]) -> None:
        self._controller, self._learned = controller, Learned(controller)
        self._clock, self._save = clock, save

    def page(self) -> bytes:
        """See `router.ports.learned.LearnedState.page`."""
        return json.encode(account(snapshot.current(self._controller, at=self._clock.at()), self._controller))

    def export(self, choice: Choice | None) -> bytes:
        """See `router.ports.learned.LearnedState.export`."""
        return self._learned.export(choice, at=self._clock.at())

    async def reset(self, choice: Choice) -> int:
        """See `router.ports.learned.LearnedState.reset`."""
        rows = self._learned.reset(choice, at=self._clock.at())
        await self._save()
        return rows

    async def freeze(self, parts: tuple[Part, ...], *, thaw: bool) -> tuple[Part, ...]:
        """See `router.ports.learned.LearnedState.freeze`."""
        self._learned.freeze(parts, at=self._clock.at(), thaw=thaw)
        await self._save()
        return tuple(sorted(self._controller.learning.frozen))

    async def take_in(self, document: bytes, choice: Choice) -> tuple[str, ...]:
        """See `router.ports.learned.LearnedState.take_in`."""
        names = self._learned.take_in(document, choice, at=self._clock.at())
        await self._save()
        return names
