"""One request on its way through the controller."""

from __future__ import annotations

from router.complexity.estimator import Scored
from router.domain.decision import Decision
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView
from router.policy.policy import Policy


class Ticket:
    """What the controller remembers of a request between its calls. `policy` is the snapshot it began with."""

    __slots__ = (
        "attempts",
        "cost_usd",
        "deadline",
        "decision",
        "first_token",
        "forced",
        "policy",
        "queue_s",
        "request",
        "request_class",
        "scored",
        "sent",
        "tried",
        "view",
    )

    def __init__(
        self,
        request: Request,
        *,
        request_class: RequestClass,
        scored: Scored,
        policy: Policy,
        forced: str | None,
        deadline: float | None,
    ) -> None:
        self.request = request
        self.request_class = request_class
        self.scored = scored
        self.policy = policy
        self.forced = forced
        self.deadline = deadline
        self.decision: Decision | None = None
        self.view: DeploymentView | None = None
        self.tried: frozenset[str] = frozenset()
        self.attempts = 0
        self.cost_usd = 0.0
        self.sent: float | None = None
        self.first_token: float | None = None
        self.queue_s = 0.0

    @property
    def priority(self) -> int:
        """Higher goes first."""
        asked = self.request.priority
        return self.request_class.priority if asked is None else asked

    def due(self) -> float:
        """When the queue must have let it go: the deadline, or the TTFT objective, or never."""
        ttft = self.request_class.objectives.ttft
        due = float("inf") if ttft is None else self.request.arrived + ttft.threshold_s
        return due if self.deadline is None else min(due, self.deadline)
