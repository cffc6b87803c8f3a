"""The latest decisions, kept in memory for whoever asks about one by id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec import json

from router.domain.decision import Decision
from router.domain.events import DecisionMade, Event
from router.domain.reasons import evidence

_KEPT = 5_000


class RecentDecisions:
    """A subscriber of the sink; the oldest is forgotten first."""

    name = "recent_decisions"

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._by_id: OrderedDict[str, Decision] = OrderedDict()

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        """Decisions only."""
        return {DecisionMade: self._on_decision}

    def flush(self) -> None:
        """Nothing is held back."""

    def _on_decision(self, event: DecisionMade) -> None:
        self._by_id[event.decision.id] = event.decision
        if len(self._by_id) > self._kept:
            self._by_id.popitem(last=False)

    def page(self, decision_id: str) -> bytes | None:
        """One decision with its evidence as JSON, what was predicted as quantiles and what decided in a sentence among
        it; `None` if it is unknown or too old."""
        decision = self._by_id.get(decision_id)
        return None if decision is None else json.encode(evidence(decision))
