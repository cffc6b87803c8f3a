"""Who sees to it that what was decided for good is on disk?"""

from __future__ import annotations

from collections.abc import Callable

from router.domain.events import PolicyApplied, RolloutChanged
from router.telemetry.sink import Handlers


class Keeper:
    """A subscriber that has it written at once what is in force: a crash must not bring back what was taken back."""

    name = "keeper"

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._is_due = False

    def handlers(self) -> Handlers:
        """Edits, and transitions of rollouts."""
        return {PolicyApplied: self._on_changed, RolloutChanged: self._on_changed}

    def _on_changed(self, event: PolicyApplied | RolloutChanged) -> None:
        self._is_due = True

    def flush(self) -> None:
        """Once for a batch of events."""
        if self._is_due:
            self._is_due = False
            self._save()
