"""Everything the controller knows of each deployment, in one place."""

from __future__ import annotations

from router.control.batching import BatchTuner
from router.control.capacity import Quota
from router.control.circuit import Circuit
from router.control.limits import FixedLimit, Limit, StepModelLimit
from router.control.profiles import profile_for
from router.core.ledger import Account, Permit
from router.domain.deployment import Deployment, DeploymentName, Kind, StepProfile
from router.domain.events import LimitUpdate
from router.domain.view import DeploymentView
from router.learning.latency import LatencyModel
from router.policy.policy import Bounds
from router.slo.pacing import CapacityPrice
from router.stats.ewma import Ewma

_WORK_HALF_LIFE_S = 120.0
_TYPICAL_CONTEXT_TOKENS = 1000.0


class Member:
    """One deployment with its ledger, models, limit, quota, circuit and price."""

    __slots__ = (
        "account",
        "batch",
        "circuit",
        "deployment",
        "latency",
        "limit",
        "price",
        "quota",
        "typical_work",
    )

    def __init__(self, deployment: Deployment, bounds: Bounds) -> None:
        self.account = Account()
        self.circuit = Circuit()
        self.price = CapacityPrice(high=bounds.capacity_price_max)
        self.typical_work = Ewma(_WORK_HALF_LIFE_S, mean=0.0, weight=0.0)
        self.latency = LatencyModel(_prior(deployment))
        self.adopt(deployment, bounds)

    def adopt(self, deployment: Deployment, bounds: Bounds) -> None:
        """Take the operator's word on everything that is not learned."""
        self.deployment = deployment
        self.price.high = bounds.capacity_price_max
        self.quota = Quota(deployment.quota) if deployment.quota is not None else None
        self.limit: Limit = _limit(deployment, bounds)
        self.batch = None
        if deployment.kind is Kind.BATCH:
            self.batch = BatchTuner(deployment.batch, max_items=min(deployment.max_items, bounds.batch_items_max))

    def open(self, permit: Permit, view: DeploymentView, *, now: float) -> None:
        """Take a permit: ledger, circuit and quota know of it before the next decision."""
        self.account.open(permit, now=now)
        self.circuit.on_sent(now=now)
        self.typical_work.update(view.work_s, now=now)
        if self.quota is not None:
            self.quota.reserve(permit.attempt.request.input_tokens, view.output_tokens, now=now)

    def retune(self, tpot_s: float | None, *, now: float) -> LimitUpdate | None:
        """Move the concurrency limit to where the tightest TPOT objective allows."""
        account = self.account
        context = account.context_tokens / account.decoding if account.decoding else _TYPICAL_CONTEXT_TOKENS
        share = self.latency.prefill_s_per_token * account.prefill_rate.at(now)
        return self.limit.update(
            self.latency,
            tpot_s=tpot_s,
            context_per_sequence=context,
            prefill_share=share,
            used=account.in_flight,
        )

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds that one prompt token ahead of us takes."""
        latency, account = self.latency, self.account
        step = latency.step_s(account.decoding, account.context_tokens)
        return latency.prefill_s_per_token + step / max(latency.prior.step_token_budget - account.decoding, 64)


class Fleet:
    """The members by name; what is learned survives a change of policy for deployments that stay the same."""

    def __init__(self, deployments: tuple[Deployment, ...], bounds: Bounds) -> None:
        self.members = {d.name: Member(d, bounds) for d in deployments}
        self._leaving: dict[DeploymentName, Member] = {}

    def find(self, name: DeploymentName, attempt_id: str) -> Member | None:
        """The member that holds an attempt, also when a policy change has meanwhile replaced it."""
        member = self.members.get(name)
        if member is not None and attempt_id in member.account.permits:
            return member
        leaving = self._leaving.get(name)
        return leaving if leaving is not None and attempt_id in leaving.account.permits else None

    def change(self, deployments: tuple[Deployment, ...], bounds: Bounds) -> None:
        """Adopt a new list: a deployment whose address and model stay keeps what it has learned."""
        members: dict[DeploymentName, Member] = {}
        for deployment in deployments:
            old = self.members.get(deployment.name) or self._leaving.pop(deployment.name, None)
            if old is not None and _same_thing(old.deployment, deployment):
                old.adopt(deployment, bounds)
                members[deployment.name] = old
            else:
                members[deployment.name] = Member(deployment, bounds)
        gone = {name: m for name, m in self.members.items() if members.get(name) is not m and m.account.in_flight}
        self._leaving = {n: m for n, m in (self._leaving | gone).items() if m.account.in_flight}
        self.members = {d.name: members[d.name] for d in deployments}


def _same_thing(old: Deployment, new: Deployment) -> bool:
    return old.address == new.address and old.model == new.model and old.kind == new.kind and old.step == new.step


def _prior(deployment: Deployment) -> StepProfile:
    return deployment.step or profile_for(deployment.model, deployment.tier)


def _limit(deployment: Deployment, bounds: Bounds) -> Limit:
    if deployment.kind is Kind.BATCH:
        return FixedLimit(float(bounds.limit_max))
    high = float(min(deployment.max_in_flight or bounds.limit_max, bounds.limit_max))
    return StepModelLimit(deployment.name, low=float(min(bounds.limit_min, high)), high=high)
