"""Which answers are judged, and what a judging call takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from router.complexity.estimator import Scored
from router.core.fleet import Fleet, Member
from router.core.judging.docket import Docket
from router.core.ledger import Permit
from router.core.rollouts.placed import Placed
from router.core.spending.spending import Spending
from router.core.ticket import Ticket
from router.core.views import Viewer, aim_of
from router.domain.decision import DecisionId
from router.domain.deployment import Deployment
from router.domain.outcome import Attempt, AttemptId
from router.domain.request import Capability, Request
from router.domain.slo import Budget, Judge, Parameters, RequestClass
from router.domain.view import DeploymentView
from router.policy.policy import Policy
from router.policy.profiles import filled_in
from router.routing.filters import holds, may_see

_MAX_TOKENS = 256
"""Room for a verdict, and for a line of thought before it."""
_PATIENCE_S = 60.0
_ROOM = 0.5
"""Share of a deployment's limit above which it is left to those who wait for an answer."""
_MOST_AT_ONCE = 8
_MORE_INPUT = 1.5
"""Tokens are estimated from bytes: what a reservation holds over the estimate, so that the budget is kept where text is
denser than it looks."""
_AS_JUDGE = Parameters(temperature=0.0, max_tokens=_MAX_TOKENS)
_NOT_A_REQUESTS = 0
"""Number of an attempt that is none of the request's own."""


def account_of(request_class: str) -> str:
    """Under which name the budget of a class's judge is kept; no class can be called so."""
    return f"{request_class} (judge)"


def accounts(classes: Iterable[RequestClass]) -> Iterator[RequestClass]:
    """What the books need to know of the judges of these classes."""
    return (_as_class(c.name, c.judge) for c in classes if c.judge is not None)


def _as_class(name: str, judge: Judge) -> RequestClass:
    return RequestClass(account_of(name), max_retries=0, budget=Budget(usd_per_day=judge.usd_per_day))


class Drawn(NamedTuple):
    """A finished answer that is to be judged."""

    decision_id: str
    request: Request
    """As its sender sent it."""
    request_class: RequestClass
    judge: Judge
    policy: Policy
    scored: Scored
    model: str
    """The model that answered."""


class Hearing(NamedTuple):
    """A judging call that may be made: its permit is open, and what it may cost is reserved."""

    ticket: Ticket
    attempt: Attempt
    permit: Permit


class Judging:
    """Draws answers, and opens the calls that judge them."""

    def __init__(self, fleet: Fleet, viewer: Viewer, spending: Spending, rng: Random) -> None:
        self._fleet, self._viewer, self._spending, self._rng = fleet, viewer, spending, rng
        self.docket = Docket()
        self.under_way = 0

    def draws(self, ticket: Ticket) -> bool:
        """Whether this request's answer will be judged, if it gets one: by chance alone, and only where the policy
        chooses who answers."""
        request_class = ticket.request_class
        if request_class.judge is None or (ticket.forced is not None and request_class.forced is None):
            return False
        return self._rng.random() < request_class.judge.share_ratio

    def open(self, drawn: Drawn, asking: Request, *, now: float) -> Hearing | str:
        """A call for a verdict, `asking` being its body; or why there is none: unavailable, wrong_residency, too_long,
        busy, over_budget."""
        named = [m for m in self._fleet.members.values() if _is_named(drawn.judge, m.deployment)]
        able = [m for m in named if may_see(drawn.request_class, m.deployment)]
        if not able:
            return "wrong_residency" if named else "unavailable"
        ticket = _ticket(drawn, asking, now)
        why = ""
        for member in sorted(able, key=lambda m: m.saturation_ratio(now=now)):
            view = self._viewer.view(member, ticket, aim_of(ticket, now))
            why = self._bar(view, asking)
            if not why:
                return self._opened(drawn, ticket, member, view, now) or "over_budget"
        return why

    def _bar(self, view: DeploymentView, asking: Request) -> str:
        if not holds(view.deployment, asking) or not view.quota_fits:
            return "too_long"
        if view.blocked:
            return "unavailable"
        used = view.load.sequences + view.load.waiting_sequences
        has_room = view.limit is None or used + 1 <= max(_ROOM * view.limit, 1.0)
        return "" if has_room and view.quota_ok and self.under_way < _MOST_AT_ONCE else "busy"

    def _opened(self, drawn: Drawn, ticket: Ticket, member: Member, view: DeploymentView, now: float) -> Hearing | None:
        attempt = _attempt(drawn, ticket, member.deployment, now)
        tokens = ticket.request.input_tokens
        most_usd = member.deployment.price.cost_usd(_MORE_INPUT * tokens, _MAX_TOKENS)
        if not self._spending.claim(ticket, attempt, most_usd, now=now):
            return None
        permit = Permit(
            attempt,
            member,
            predicted_ttft_s=view.ttft_s,
            predicted_tpot_s=view.tpot_s,
            expected_tokens=view.output_tokens,
        )
        member.open(permit, view, now=now)
        self.under_way += 1
        self.docket.expect(drawn.decision_id, drawn.judge, attempt.deployment.name, drawn.request_class.name)
        return Hearing(ticket, attempt, permit)

    def close(self, drawn: Drawn, quality: float | None, *, now: float) -> None:
        """The call has ended, with a verdict or without one. What it cost is in the books already."""
        self.under_way -= 1
        if quality is None:
            self.docket.forget(drawn.decision_id)
        else:
            self.docket.on_verdict(drawn.decision_id, quality, due=now + drawn.judge.wait_s)


def is_readable(request: Request) -> bool:
    """Whether the answer can be text that a judge reads: one, to a prompt that is text."""
    return Capability.IMAGES not in request.needs and Capability.CHOICES not in request.needs


def _is_named(judge: Judge, deployment: Deployment) -> bool:
    return judge.deployment in (deployment.name, deployment.group)


def _ticket(drawn: Drawn, asking: Request, now: float) -> Ticket:
    return Ticket(
        asking,
        placed=Placed(drawn.policy, _as_class(drawn.request_class.name, drawn.judge)),
        scored=drawn.scored,
        parameters=_AS_JUDGE,
        forced=None,
        deadline=now + _PATIENCE_S,
        aim=None,
    )


def _attempt(drawn: Drawn, ticket: Ticket, deployment: Deployment, now: float) -> Attempt:
    """Under an id of its own: it is no call of the decision that it judges."""
    filled = filled_in(_AS_JUDGE, ticket.request, deployment, _MAX_TOKENS)
    name = f"{drawn.decision_id}.judge"
    return Attempt(
        id=AttemptId(name),
        decision_id=DecisionId(name),
        request=ticket.request,
        deployment=deployment,
        number=_NOT_A_REQUESTS,
        started=now,
        deadline=ticket.deadline,
        stream=False,
        max_tokens=filled.max_tokens,
        temperature=filled.temperature,
        top_p=filled.top_p,
        top_k=filled.top_k,
    )
