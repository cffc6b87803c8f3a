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
        "aim",
        "attempts",
        "cost_usd",
        "deadline",
        "decision",
        "first_queue_s",
        "first_sent",
        "first_token",
        "floor_counted",
        "forced",
        "lengths",
        "looked",
        "max_tokens",
        "policy",
        "qualities",
        "queue_s",
        "queued",
        "request",
        "request_class",
        "scored",
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
        aim: float | None,
    ) -> None:
        self.request = request
        self.request_class = request_class
        self.scored = scored
        self.policy = policy
        self.forced = forced
        self.deadline = deadline
        """Past it there is no answer."""
        self.aim = aim
        """What is aimed at: the deadline, or one that may be missed."""
        self.max_tokens = request.max_tokens or request_class.parameters.max_tokens
        self.qualities: dict[str, tuple[float, float]] = {}
        self.lengths: dict[str, float] = {}
        self.looked = False
        self.floor_counted: float | None = None
        self.decision: Decision | None = None
        self.view: DeploymentView | None = None
        self.tried: frozenset[str] = frozenset()
        self.attempts = 0
        self.cost_usd = 0.0
        self.first_sent: float | None = None
        self.first_queue_s = 0.0
        self.first_token: float | None = None
        self.queue_s = 0.0
        self.queued = False

    @property
    def priority(self) -> int:
        """Higher goes first."""
        asked = self.request.priority
        return self.request_class.priority if asked is None else asked

    def on_sent(self, now: float) -> None:
        """A call goes out."""
        if self.first_sent is None:
            self.first_sent, self.first_queue_s = now, self.queue_s

    @property
    def overhead_s(self) -> float:
        """Seconds from arrival to the first call that were neither waiting for room nor anybody else's."""
        if self.first_sent is None:
            return 0.0
        return max(self.first_sent - self.request.arrived - self.first_queue_s, 0.0)

    def due(self) -> float:
        """When the queue must have let it go: the deadline, or the TTFT objective, or never."""
        ttft = self.request_class.objectives.ttft
        due = float("inf") if ttft is None else self.request.arrived + ttft.threshold_s
        return due if self.aim is None else min(due, self.aim)
