"""What is kept of a decision: what decided it, why nobody could serve, and what late feedback will need."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from router.core.rollouts.evidence import Evidence
from router.core.ticket import Ticket
from router.domain.decision import Candidate, Exclusion
from router.domain.errors import Rejected, RequestError
from router.domain.slo import WhenSpent
from router.domain.view import DeploymentView
from router.learning.verify.checks import Grades
from router.routing.fallback import LATER
from router.routing.filters import PASSING
from router.routing.need import Purse
from router.stats.normal import logit, sigmoid

_MAX_REMEMBERED = 100_000


_NEVER_FITS = frozenset({"lacks_capability", "context_too_long", "exceeds_quota", "wrong_residency"})


class Hold:
    """Nothing may take the request right now, but something may soon."""

    __slots__ = ("excluded", "for_budget")

    def __init__(self, excluded: Sequence[Exclusion], *, for_budget: bool = False) -> None:
        self.excluded = excluded
        self.for_budget = for_budget
        """Only the budget of the day keeps it: it waits for the next one."""


class Remembered(Struct, frozen=True):
    """What feedback on a decision teaches from."""

    model: str
    use_case: str
    estimate: float
    request_class: str
    deployment: str
    evidence: Evidence | None = None
    """The side of a rollout that it was decided on."""
    ease: float = 0.0
    """How easy the request was for all models alike, in log odds."""
    p_before: float = 0.0
    """P(adequate) before the answer was checked, with what the checks said of it."""
    grades: Grades = ()
    novelty: float = 0.0
    floor: str = ""
    counted: float | None = None
    """The floor that counts the answer, and as what; the verdict itself once there was one."""


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
        if ticket.shifts:
            estimate = sigmoid(logit(estimate) + ticket.shifts.get(deployment.model, 0.0))
        self._by_id[decision.id] = Remembered(
            deployment.model,
            ticket.scored.use_case,
            estimate,
            decision.request_class,
            deployment.name,
            ticket.evidence,
            ticket.ease,
            novelty=ticket.scored.novelty,
        )
        if len(self._by_id) > self._most:
            self._by_id.popitem(last=False)

    def on_checked(self, decision_id: str, p_before: float, shift: float, grades: Grades) -> None:
        """The answer was checked, which moved its log odds by `shift`. Feedback is then compared with what was expected
        *after* the checks: answers that are sent have mostly passed, which says nothing about the model's others."""
        known = self._by_id.get(decision_id)
        if known is not None:
            estimate = sigmoid(logit(known.estimate) + shift)
            self._by_id[decision_id] = replace(known, estimate=estimate, p_before=p_before, grades=grades)

    def on_counted(self, decision_id: str, floor: str, counted: float) -> None:
        """The answer of this decision was given, and counts so much for a floor."""
        known = self._by_id.get(decision_id)
        if known is not None:
            self._by_id[decision_id] = replace(known, floor=floor, counted=counted)

    def recall(self, decision_id: str) -> Remembered | None:
        """Once: a second feedback on the same decision is not counted twice."""
        return self._by_id.pop(decision_id, None)


def binding(
    candidates: Sequence[Candidate], chosen: int, forced: str | None, excluded: Sequence[Exclusion] = ()
) -> str:
    """The constraint that decided: `forced`, `fallback` (an order kept out some of the `excluded`), `only`, `explored`,
    or the term that put the pick before the runner-up.

    Terms: `slo`, `quality`, `floor`, `cost`, `capacity`, `cascade`.
    """
    if forced is not None:
        return "forced"
    if excluded and any(e.code == LATER for e in excluded):
        return "fallback"
    if len(candidates) == 1:
        return "only"
    mine = candidates[chosen]
    scores = [c.score for c in candidates]
    scores[chosen] = -inf
    other = candidates[scores.index(max(scores))]
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
        "cascade": a.cascade - b.cascade,
    }
    return max(gains, key=gains.__getitem__)


def nobody(excluded: Sequence[Exclusion], purse: Purse | None = None) -> Hold:
    """No candidate is left: wait, where what keeps them out passes; else raises why, for the sender."""
    codes = {e.code for e in excluded}
    if purse is not None and purse.is_spent and purse.when_spent is WhenSpent.REJECT:
        raise _spent(purse)
    if codes & PASSING:
        return Hold(excluded)
    if purse is not None and "budget_spent" in codes:
        if purse.when_spent is WhenSpent.QUEUE:
            return Hold(excluded, for_budget=True)
        raise _spent(purse)
    details = "; ".join(f"{e.deployment}: {e.detail}" for e in excluded if e.code != "not_allowed")
    if codes & _NEVER_FITS and codes <= _NEVER_FITS | {"not_allowed"}:
        raise RequestError(f"no deployment can take this request: {details}", code="unsupported")
    if "too_dear" in codes:
        raise Rejected(f"no deployment is cheap enough for this request: {details}", code="over_budget")
    raise Rejected(f"no deployment may serve this request: {details or 'the class allows none'}", code="no_deployment")


def _spent(purse: Purse) -> Rejected:
    """The refusal of a class whose budget of the day does not hold another call."""
    least = min(purse.short.values())
    return Rejected(
        f"the budget of this request's class is spent for today: a call may cost USD {least:.6f}, and of the budget "
        f"there are {purse.stand()}",
        code="insufficient_quota",
        retry_after_s=purse.resets_s,
    )


def shed(candidates: Sequence[Candidate]) -> Rejected:
    """No candidate is worth it: the refusal of a sheddable request."""
    best = max(candidates, key=lambda c: c.score)
    return Rejected(
        f"no deployment can answer well enough in time: best is {best.deployment} with P(in SLO) "
        f"{best.terms.p_slo:.2f} and P(adequate) {best.terms.p_adequate:.2f}",
        code="overloaded",
        retry_after_s=1.0,
    )
