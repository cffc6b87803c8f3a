"""One request on its way through the controller."""

from __future__ import annotations

from router.complexity.estimator import Scored
from router.core.rollouts.placed import Placed
from router.core.rollouts.trial import STABLE
from router.domain.aws.prefix import Cut
from router.domain.decision import Decision
from router.domain.request import Request
from router.domain.slo import Parameters
from router.domain.view import DeploymentView
from router.learning.verify.checks import Checks
from router.slo.budget import Pace


class Kept:
    """A request is kept for a cheaper `lane`, since when, and why it no longer is."""

    __slots__ = ("lane", "reason", "since")

    def __init__(self, lane: str, since: float) -> None:
        self.lane, self.since, self.reason = lane, since, ""


class Ticket:
    """What the controller remembers of a request between its calls. `policy` is the snapshot it began with, `asking`
    the deployments about whose answer it is worth asking whom the sender names; `doubted`: a check spoke against the
    answer that the sender gets. `parameters` fill in where the request is silent; `pace` is of a class with a mean
    budget, from its first decision on; `cuts` are where its prompt can be cut for a cache, once somebody has asked.
    `home`: the deployment whose batch job has the request since an earlier life of the process, and what was forced
    before it was held to that."""

    __slots__ = (
        "aim",
        "arm",
        "asking",
        "attempts",
        "began",
        "checks",
        "cost_source",
        "cost_usd",
        "cuts",
        "deadline",
        "decision",
        "doubted",
        "ease",
        "evidence",
        "first_queue_s",
        "first_sent",
        "first_token",
        "floor_counted",
        "forced",
        "held_since",
        "home",
        "kept",
        "lengths",
        "looked",
        "max_tokens",
        "original",
        "pace",
        "parameters",
        "policy",
        "qualities",
        "queue_s",
        "queued",
        "request",
        "request_class",
        "scored",
        "shadow",
        "shaped",
        "shifts",
        "tried",
        "unaskable",
        "view",
    )

    def __init__(
        self,
        request: Request,
        *,
        placed: Placed,
        scored: Scored,
        parameters: Parameters,
        forced: str | None,
        deadline: float | None,
        aim: float | None,
    ) -> None:
        self.request = self.original = request
        """As it is sent on; `original` is as it came."""
        self.request_class, self.policy = placed.request_class, placed.policy
        self.scored = scored
        self.ease = scored.ease()
        """How easy the request is for all models alike, in log odds."""
        self.arm, self.evidence, self.shadow = placed.arm, placed.evidence, placed.shadow
        self.forced = forced
        self.deadline = deadline
        """Past it there is no answer."""
        self.aim = aim
        """What is aimed at: the deadline, or one that may be missed."""
        self.parameters = parameters
        self.max_tokens = request.max_tokens or parameters.max_tokens
        """Fixed by the sender or the class; `None` where it is learned by model, or nothing bounds the answer."""
        self.qualities: dict[str, tuple[float, float]] = {}
        self.lengths: dict[str, float] = {}
        self.looked = self.queued = False
        self.floor_counted: tuple[float, float] | None = None
        self.decision: Decision | None = None
        self.view: DeploymentView | None = None
        self.tried = self.unaskable = frozenset[str]()
        """Deployments not to be called next, and those that the request cannot be put to, however often."""
        self.attempts, self.cost_usd, self.cost_source = 0, 0.0, ""
        self.first_sent: float | None = None
        self.first_token: float | None = None
        self.first_queue_s = self.queue_s = 0.0
        self.began = request.arrived
        """When the time of its objectives began to run, as far as decisions go: waiting for a budget is left out. What
        is measured and judged counts from arrival."""
        self.held_since: float | None = None
        """Since when nothing but the budget of the day keeps it."""
        self.kept: Kept | None = None
        self.home: tuple[str, str | None] | None = None
        self.checks: Checks | None = None
        """What its answer will be checked for; `None` where it will not, or has been."""
        self.asking: frozenset[str] = frozenset()
        self.doubted = False
        self.shifts: dict[str, float] = {}
        """By model, how far a checked answer moved the log odds of what another would be like."""
        self.pace: Pace | None = None
        self.cuts: tuple[Cut, ...] | None = None
        self.shaped: tuple[tuple[str, int], ...] = ()
        """What was changed in the request before it is sent on, and the input tokens that it saves."""

    @property
    def learned_as(self) -> str:
        """The name under which lengths are learned: an arm or an edit that answers otherwise spoils no other side."""
        return f"{self.request_class.name}/{self.arm}" if self.arm not in ("", STABLE) else self.request_class.name

    @property
    def priority(self) -> int:
        """Higher goes first."""
        asked = self.request.priority
        return self.request_class.priority if asked is None else asked

    @property
    def weight(self) -> float:
        """Of its tenant, where tenants compete."""
        return self.policy.tenants.get(self.request.tenant, 1.0)

    def pay(self, usd: float, source: str) -> None:
        """A call of it cost this much, at prices from `source`."""
        self.cost_usd += usd
        if usd:
            self.cost_source = source

    def on_sent(self, now: float) -> None:
        """A call goes out."""
        if self.first_sent is None:
            self.first_sent, self.first_queue_s = now, self.queue_s

    @property
    def was_held(self) -> bool:
        """Whether it has waited for a budget, or does."""
        return self.held_since is not None or self.began > self.request.arrived

    def release(self, now: float) -> None:
        """There is a budget again."""
        if self.held_since is not None:
            self.began += now - self.held_since
            self.held_since = None

    @property
    def overhead_s(self) -> float:
        """Seconds from arrival to the first call that were neither waiting for room nor anybody else's."""
        if self.first_sent is None:
            return 0.0
        return max(self.first_sent - self.request.arrived - self.first_queue_s, 0.0)

    def due(self) -> float:
        """When the queue must have let it go: the deadline, or the TTFT objective, or never."""
        ttft = self.request_class.objectives.ttft
        due = float("inf") if ttft is None else self.began + ttft.threshold_s
        return due if self.aim is None else min(due, self.aim)
