"""A request comes in: its class, its complexity, its deadline, and whether it asks for a deployment by name."""

from __future__ import annotations

from router.complexity.estimator import Estimator, Scored
from router.core.cascade.option import wanted
from router.core.rollouts.placed import Placed
from router.core.rollouts.rollouts import Rollouts
from router.core.ticket import Ticket
from router.domain.errors import Expired, RequestError
from router.domain.request import Request
from router.domain.slo import Parameters, PastDeadline, RequestClass, Style
from router.policy.policy import Policy
from router.policy.profiles import resolve
from router.wire.openai.shape import Shaped, shape


class Admission:
    """The part of a policy that a request meets first; made anew with each policy and each step of a rollout."""

    def __init__(self, policy: Policy, rollouts: Rollouts, estimator: Estimator) -> None:
        self._estimator = estimator
        self._place = rollouts.place
        self._classes = frozenset(c.name for _, c in rollouts.classes())
        self._deployments = frozenset(n for d in policy.deployments for n in (d.name, d.group, d.model))
        self._resolved: dict[tuple[str, int, str], tuple[RequestClass, Parameters]] = {}

    def admit(self, request: Request, *, now: float) -> Ticket:
        """A ticket for the request; raises `RequestError` or `Expired`."""
        scored = self._estimator.estimate(request)
        placed = self._place(request, scored.use_case)
        try:
            ticket = self.ticket(request, placed, scored)
        except RequestError:
            if placed.evidence is not None:
                placed.evidence.on_failed(placed.request_class.objectives, now=now)
            raise
        if ticket.deadline is not None and ticket.deadline <= now:
            raise Expired("the deadline had passed when the request arrived")
        return ticket

    def ticket(self, request: Request, placed: Placed, scored: Scored) -> Ticket:
        """The request under the snapshot it was placed in; raises `RequestError`."""
        request_class = placed.request_class
        deadline, aim = request.deadline, request.deadline
        if request_class.deadline_s is not None:
            due = request.arrived + request_class.deadline_s
            aim = due if aim is None else min(aim, due)
            if request_class.past_deadline is PastDeadline.FAIL:
                deadline = aim
        original = request
        shaped: Shaped = ()
        if request_class.input_budget_tokens is not None or request_class.style is Style.CONCISE:
            request, shaped = shape(request, request_class)
        ticket = Ticket(
            request,
            placed=placed,
            scored=scored,
            parameters=self._parameters(placed, scored.use_case),
            forced=self._forced(request, request_class),
            deadline=deadline,
            aim=aim,
        )
        ticket.original, ticket.shaped = original, shaped
        if request_class.cascade is not None and ticket.forced is None:
            ticket.checks = wanted(ticket, request_class.cascade)
        return ticket

    def _parameters(self, placed: Placed, use_case: str) -> Parameters:
        """What the class fills in for a use case; looked up once for each class, which is kept so that its id stays
        its own."""
        request_class = placed.request_class
        if request_class.profile is None:
            return request_class.parameters
        key = (placed.policy.digest, id(request_class), use_case)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = request_class, resolve(placed.policy, request_class, use_case)
        return found[1]

    def _forced(self, request: Request, request_class: RequestClass) -> str | None:
        """What the class forces, whatever the sender asks for; else the deployment, group or model asked for by name.
        A class name, or an alias a class matches, is neither."""
        if request_class.forced is not None:
            return request_class.forced
        asked = request.model
        if asked is None or asked in self._classes:
            return None
        if asked in self._deployments:
            return asked
        if request_class.match.models:
            return None
        raise RequestError(
            f"no model, deployment or request class is called `{asked}`; leave `model` out, or say `auto`",
            code="model_not_found",
            param="model",
        )
