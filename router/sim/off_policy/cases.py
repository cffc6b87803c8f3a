"""One case a request: its first decision, and how the request ended after whatever else was tried.

A call that failed is decided again, under a decision of its own that says which deployments were tried. Those belong to
the first decision: had it gone elsewhere, they might not have been needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from router.domain.decision import Decision
from router.storage.decision_records import Logged, OutcomeRecord


class Case(Struct, frozen=True):
    """A request as it was decided and as it ended. `told` is the quality in [0, 1] that came back, if any."""

    decision: Decision
    outcome: OutcomeRecord
    told: float | None


class Cases:
    """Gathers cases from a log in the order of decisions. After that, `open` counts requests without an end."""

    def __init__(self, logged: Iterable[Logged]) -> None:
        self._logged = logged
        self.open = 0

    def __iter__(self) -> Iterator[Case]:
        """Each case as soon as its end is known."""
        waiting: dict[str, Decision] = {}
        self.open = 0
        for one in self._logged:
            decision = one.decision
            first = waiting.pop(decision.request_id, None)
            if not any(e.code == "tried" for e in decision.excluded):
                self.open += first is not None
                first = decision
            if first is None:
                continue
            if one.outcome is None:
                waiting[decision.request_id] = first
            else:
                yield Case(first, one.outcome, one.feedback[0].quality if one.feedback else None)
        self.open += len(waiting)
