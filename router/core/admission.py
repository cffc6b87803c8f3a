"""A request comes in: its class, its complexity, its deadline, and whether it asks for a deployment by name."""

from __future__ import annotations

from router.complexity.estimator import Estimator
from router.core.ticket import Ticket
from router.domain.errors import Expired, RequestError
from router.domain.request import Request
from router.domain.slo import PastDeadline, RequestClass
from router.policy.match import ClassMatcher
from router.policy.policy import Policy


class Admission:
    """The part of a policy that a request meets first; made anew with each policy."""

    def __init__(self, policy: Policy, estimator: Estimator) -> None:
        self.policy = policy
        self._estimator = estimator
        self._matcher = ClassMatcher(policy.classes)
        self._classes = frozenset(c.name for c in policy.classes)
        self._deployments = frozenset(n for d in policy.deployments for n in (d.name, d.group, d.model))

    def admit(self, request: Request, *, now: float) -> Ticket:
        """A ticket for the request; raises `RequestError` or `Expired`."""
        scored = self._estimator.estimate(request)
        request_class = self._matcher.classify(request, scored.use_case)
        deadline, aim = request.deadline, request.deadline
        if request_class.deadline_s is not None:
            due = request.arrived + request_class.deadline_s
            aim = due if aim is None else min(aim, due)
            if request_class.past_deadline is PastDeadline.FAIL:
                deadline = aim
        if deadline is not None and deadline <= now:
            raise Expired("the deadline had passed when the request arrived")
        return Ticket(
            request,
            request_class=request_class,
            scored=scored,
            policy=self.policy,
            forced=self._forced(request, request_class),
            deadline=deadline,
            aim=aim,
        )

    def _forced(self, request: Request, request_class: RequestClass) -> str | None:
        """The deployment, group or model asked for by name; a class name, or an alias a class matches, is neither."""
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
