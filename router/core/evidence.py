"""What is kept of a decision: the constraint that decided it, and what late feedback will need."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

from router.core.ticket import Ticket
from router.domain.decision import Candidate
from router.domain.view import DeploymentView

_MAX_REMEMBERED = 100_000


class Remembered(Struct, frozen=True, gc=False):
    """What feedback on a decision teaches from."""

    model: str
    use_case: str
    estimate: float
    request_class: str
    deployment: str


class Memory:
    """Decisions that feedback may still come for, oldest forgotten first."""

    def __init__(self, most: int = _MAX_REMEMBERED) -> None:
        self._by_id: OrderedDict[str, Remembered] = OrderedDict()
        self._most = most

    def remember(self, ticket: Ticket, view: DeploymentView) -> None:
        """A call is about to be made for this decision."""
        decision = ticket.decision
        assert decision is not None
        deployment = view.deployment
        estimate = ticket.scored.of(deployment.model, deployment.tier)
        self._by_id[decision.id] = Remembered(
            deployment.model, ticket.scored.use_case, estimate, decision.request_class, deployment.name
        )
        if len(self._by_id) > self._most:
            self._by_id.popitem(last=False)

    def recall(self, decision_id: str) -> Remembered | None:
        """Once: a second feedback on the same decision is not counted twice."""
        return self._by_id.pop(decision_id, None)


def binding(candidates: Sequence[Candidate], chosen: int, forced: str | None) -> str:
    """The constraint that decided: `forced`, `only`, `explored`, or the term that put the pick before the runner-up.

    Terms: `slo`, `quality`, `floor`, `cost`, `capacity`.
    """
    if forced is not None:
        return "forced"
    if len(candidates) == 1:
        return "only"
    mine = candidates[chosen]
    other = max((c for i, c in enumerate(candidates) if i != chosen), key=lambda c: c.score)
    if mine.score < other.score:
        return "explored"
    a, b = mine.terms, other.terms
    quality = (a.p_adequate - b.p_adequate) * 0.5 * (a.p_slo + b.p_slo)
    gains = {
        "slo": a.useful - b.useful - quality,
        "quality": quality,
        "floor": a.floor - b.floor,
        "cost": b.cost - a.cost,
        "capacity": b.capacity - a.capacity,
    }
    return max(gains, key=lambda k: gains[k])
