"""What is it worth, before the first call, that its answer can be checked and made again elsewhere?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from router.core.ticket import Ticket
from router.domain.decision import Candidate
from router.domain.deployment import Deployment
from router.domain.request import Capability
from router.domain.slo import Cascade, Check, Goal, RequestClass
from router.domain.view import DeploymentView
from router.learning.latency import E2E_SIGMA
from router.learning.verify.checks import FAIL, Checks
from router.learning.verify.evidence import CheckModel
from router.routing.need import Need
from router.routing.scorers import SERVING_IN_TIME
from router.stats.normal import below, logit, sigmoid

SHARED_DIFFICULTY = 1.0
"""Where one model's answer is wrong, the log odds of another's being right fall by this much: prompts are hard for
both. Measured within the subjects of 7,152 MMLU questions, Mixtral-8x7B and GPT-4-1106: .98."""
_PROBABLY = 0.5
_WORTH_A_WAIT = 0.01
"""Useful answers that a verdict must be expected to add: the time of a sender who is promised no more is not free."""
_MUTE = frozenset({"bedrock", "simulated"})
"""Backends whose protocol has no probabilities of tokens."""


class Asking(Struct, frozen=True):
    """What is expected of whoever the sender names: mean seconds to wait, and the share of verdicts that come."""

    wait_s: float
    answered: float


def wanted(ticket: Ticket, cascade: Cascade) -> Checks | None:
    """The checks of a request of a class with a cascade; `None` where there is nothing to check. Raises
    `RequestError` where what the sender brings cannot be used."""
    request, parameters = ticket.request, ticket.parameters
    is_bounded = parameters.max_tokens is not None or parameters.ceiling is not None
    checks = Checks(request, cascade, is_bounded=is_bounded)
    if not checks.names or Capability.CHOICES in request.needs or (request.stream and not cascade.stream):
        return None
    return checks


def gives_logprobs(deployment: Deployment) -> bool:
    """Whether its backend tells the probability of each token, if asked."""
    return Capability.LOGPROBS in deployment.capabilities and deployment.address.backend not in _MUTE


def asks_logprobs(ticket: Ticket, deployment: Deployment) -> bool:
    """Whether the call that was just decided asks for probabilities of tokens for the sake of a check."""
    if ticket.checks is None or not ticket.checks.wants_logprobs or not gives_logprobs(deployment):
        return False
    return not ticket.request.stream or is_worth_holding(ticket)


def is_worth_holding(ticket: Ticket) -> bool:
    """Whether the last decision gave anything for checking the answer of its pick."""
    decision = ticket.decision
    return decision is not None and any(
        c.deployment == decision.chosen and c.terms.cascade > 0.0 for c in decision.candidates
    )


def rival(
    view: DeploymentView, views: Sequence[DeploymentView], candidates: Sequence[Candidate]
) -> DeploymentView | None:
    """Who would make the answer again: the best score among other models that are likelier to be adequate."""
    better = [
        i
        for i, other in enumerate(views)
        if other.p_adequate > view.p_adequate and other.deployment.model != view.deployment.model
    ]
    return views[max(better, key=lambda i: candidates[i].score)] if better else None


def given_first(p: float, first_before: float, first_after: float) -> float:
    """P(adequate) of another model's answer, `p` before anything was known, once the first answer's has moved. `p` is
    the mean over the first being adequate or not, so an answer that nothing was learned of moves nothing."""
    if_wrong = sigmoid(logit(p) - SHARED_DIFFICULTY)
    if_right = min((p - (1.0 - first_before) * if_wrong) / max(first_before, 1e-6), 1.0)
    return min(max(p + (first_after - first_before) * (if_right - if_wrong), 0.0), 1.0)


def worth(p: float, p_in_time: float, need: Need) -> float:
    """What sending an answer is worth that is there and paid: the part of a score that is not a price of a call."""
    request_class = need.request_class
    value = p_in_time * p
    if request_class.goal is Goal.COST:
        value += SERVING_IN_TIME * p_in_time
    if request_class.floor is not None:
        value += need.floor_price * (p - request_class.floor.ratio)
    return value


class Plan:
    """A first call, and the second that may follow it, seen from before both. `asking`: the sender's judge is waited
    for in between."""

    def __init__(
        self,
        ticket: Ticket,
        need: Need,
        first: DeploymentView,
        second: tuple[DeploymentView, float],
        asking: Asking | None = None,
    ) -> None:
        """`second` is seen from when it would start, with its score."""
        assert ticket.request_class.cascade is not None
        assert ticket.checks is not None
        self.terms: Cascade = ticket.request_class.cascade
        left_out = {Check.CALLBACK} if asking is None else set()
        if not gives_logprobs(first.deployment):
            left_out.add(Check.LOGPROB)
        self.checks = tuple(check for check in ticket.checks.names if check not in left_out)
        self.need, self.first, self.asking = need, first, asking
        self.is_held = ticket.request.stream
        """Whether the sender waits longer for it than without checks."""
        self._second, self._score = second
        self._slope = self._second.p_slo + (need.floor_price if need.request_class.floor is not None else 0.0)
        wait_s = 0.0 if asking is None else asking.wait_s
        starts = need.now + first.e2e_s + wait_s
        self._is_allowed = fits(ticket, self._second, starts, paid_usd=first.cost_usd)
        self.p_in_time = first.p_slo
        if self.is_held:
            self.p_in_time *= _held_in_time(need.request_class, first, need)
        if asking is not None:
            self.p_in_time *= _delayed_in_time(ticket, first, need, wait_s)

    @property
    def loss(self) -> float:
        """What the sender loses by waiting for the checks, whatever they say."""
        p = self.first.p_adequate
        return worth(p, self.first.p_slo, self.need) - worth(p, self.p_in_time, self.need)

    def gain(self, p: float) -> float:
        """What making it again is worth over sending an answer of P(adequate) `p`; 0 where it would be sent."""
        if not self._is_allowed:
            return 0.0
        second = self._second
        other = given_first(second.p_adequate, self.first.p_adequate, p)
        gain = self._score + self._slope * (other - second.p_adequate) - worth(p, self.p_in_time, self.need)
        if self.terms.threshold is None:
            return max(gain, 0.0)
        return gain if is_under(self.terms.threshold, p, other, second.p_slo) else 0.0

    def value(self, model: CheckModel) -> float:
        """What the checks add to the first call's score."""
        return self._expected(model, self.first.p_adequate, 0) - self.loss

    def _expected(self, model: CheckModel, p: float, number: int) -> float:
        """The mean gain over all that the checks from `number` on may say of an answer of P(adequate) `p`."""
        if number == len(self.checks):
            return self.gain(p)
        check, name = self.checks[number], self.first.deployment.model
        value = 0.0
        for grade, chance in model.chances(p, name, check):
            after = model.after(p, name, ((check, grade),))
            value += chance * (self.gain(after) if grade == FAIL else self._expected(model, after, number + 1))
        if check is Check.CALLBACK and self.asking is not None:
            silent = 1.0 - self.asking.answered
            value += silent * (self._expected(model, p, number + 1) - value)
        return value


def is_under(threshold: float, p: float, other: float, other_in_time: float) -> bool:
    """Whether an answer is made again by the operator's word: it is under the threshold, and another would be better
    and probably in time."""
    return p < threshold and other > p and other_in_time >= _PROBABLY


def fits(ticket: Ticket, second: DeploymentView, starts: float, *, paid_usd: float) -> bool:
    """Whether a second call that starts then is expected to end within the class's bound and before the deadline, and
    costs no more with what was `paid_usd` before than a request may."""
    cascade, most_usd = ticket.request_class.cascade, ticket.request_class.budget.usd_per_request
    if cascade is None or second.e2e_s > cascade.max_wait_s:
        return False
    if most_usd is not None and paid_usd + second.cost_usd > most_usd:
        return False
    return ticket.deadline is None or starts + second.e2e_s < ticket.deadline


def with_option(candidate: Candidate, plans: Sequence[Plan], model: CheckModel) -> tuple[Candidate, bool]:
    """The candidate with what the option adds, and whether the sender's judge is part of it: by the operator's
    threshold, or where what it can tell is worth the wait. `plans` are one without asking and, where somebody can be
    asked, one with it. A stream that is held back loses what it had of an early first token; where that is more than
    the option is worth, it is not held."""
    plan = plans[0]
    if plan.is_held and plan.first.e2e_s > plan.terms.max_wait_s:
        return candidate, False
    value, asks = plan.value(model), False
    for asking in plans[1:]:
        with_verdict = asking.value(model)
        asks = with_verdict > value + _WORTH_A_WAIT or plan.terms.threshold is not None
        value = with_verdict if asks else value
    if plan.is_held and value <= 0.0:
        return candidate, False
    return replace(candidate, score=candidate.score + value, terms=replace(candidate.terms, cascade=value)), asks


def _held_in_time(request_class: RequestClass, view: DeploymentView, need: Need) -> float:
    """P(the first token of a stream that is held back is in time): it comes with the last."""
    ttft = request_class.objectives.ttft
    if ttft is None:
        return 1.0
    left = ttft.threshold_s - need.waited_s
    return below(0.0, math.log(view.e2e_s / left), E2E_SIGMA) if left > 0.0 else 0.0


def _delayed_in_time(ticket: Ticket, view: DeploymentView, need: Need, wait_s: float) -> float:
    """P(the whole answer is in time though it is sent `wait_s` late), given that it would have been."""
    e2e, bounds = ticket.request_class.objectives.e2e, []
    if e2e is not None:
        bounds.append(e2e.threshold_s - need.waited_s)
    if ticket.aim is not None:
        bounds.append(ticket.aim - need.now)
    if not bounds:
        return 1.0
    left = min(bounds)
    if left <= wait_s:
        return 0.0
    late = below(0.0, math.log(view.e2e_s / (left - wait_s)), E2E_SIGMA)
    return late / max(below(0.0, math.log(view.e2e_s / left), E2E_SIGMA), late, 1e-9)
