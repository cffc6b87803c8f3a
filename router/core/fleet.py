"""Everything the controller knows of each deployment, in one place."""

from __future__ import annotations

from router.control.batching import BatchTuner
from router.control.capacity import Quota
from router.control.circuit import Circuit
from router.control.limits import FixedLimit, Limit, StepModelLimit
from router.control.profiles import profile_for
from router.core.ledger import Account, Permit
from router.domain.deployment import Deployment, DeploymentName, Kind
from router.domain.events import LimitUpdate
from router.domain.view import DeploymentView
from router.learning.latency import BATCH_SIGMA, E2E_SIGMA, LatencyModel
from router.policy.meaning.fleet import keeps_learned
from router.policy.policy import Bounds
from router.slo.pacing import CapacityPrice
from router.stats.ewma import Ewma

_WORK_HALF_LIFE_S = 120.0
_TYPICAL_CONTEXT_TOKENS = 1000.0
_LONG_ANSWER = 3.0
"""Times the expected length: a silent call may only be writing a long answer."""


class Member:
    """One deployment with its ledger, models, limit, quota, circuit and price.

    A permit holds the member it was opened on, so that a call ends where it began also when a policy change has
    meanwhile replaced the member.
    """

    def __init__(self, deployment: Deployment, bounds: Bounds) -> None:
        self.deployment = deployment
        self.account = Account()
        self.circuit = Circuit()
        self.told_health = self.circuit.health
        self.price = CapacityPrice(high=bounds.capacity_price_max)
        self.typical_work = Ewma(_WORK_HALF_LIFE_S, mean=0.0, weight=0.0)
        self.latency = LatencyModel(deployment.step or profile_for(deployment.model, deployment.tier))
        self.limit = _limit(deployment, bounds)
        self.quota = None if deployment.quota is None else Quota(deployment.quota)
        self.batch = _tuner(deployment, bounds)
        self.spread = self.latency.spread(self._e2e_sigma)

    @property
    def _e2e_sigma(self) -> float:
        return E2E_SIGMA if self.batch is None else BATCH_SIGMA

    def restore(self, latency: dict[str, list[float]]) -> None:
        """Take up what a checkpoint kept of the latency model."""
        self.latency.restore(latency)
        self.spread = self.latency.spread(self._e2e_sigma)

    def adopt(self, deployment: Deployment, bounds: Bounds) -> None:
        """Take the operator's word on what changed; everything learned stays."""
        old, self.deployment = self.deployment, deployment
        self.price.high = bounds.capacity_price_max
        self.limit.rebound(*_limit_bounds(deployment, bounds))
        if deployment.quota != old.quota:
            self.quota = None if deployment.quota is None else Quota(deployment.quota)
        if deployment.batch != old.batch:
            self.batch = _tuner(deployment, bounds)
        elif self.batch is not None:
            self.batch.max_items = min(deployment.max_items, bounds.batch_items_max)

    def open(self, permit: Permit, view: DeploymentView, *, now: float) -> None:
        """Take a permit: ledger, circuit and quota know of it before the next decision."""
        self.account.open(permit, now=now)
        self.circuit.on_sent(permit.attempt.id, now=now)
        self.typical_work.update(view.work_s, now=now)
        if self.quota is not None:
            self.quota.reserve(permit.attempt.request.input_tokens, view.output_tokens, now=now)

    def beat(self, tpot_s: float | None, *, now: float) -> LimitUpdate | None:
        """The heartbeat: notice silence, forget what is stale, and move the concurrency limit to where the tightest
        TPOT objective allows."""
        account = self.account
        self._notice_overdue(now)
        self.latency.relax(now=now)
        spread = self.latency.spread(self._e2e_sigma)
        if spread != self.spread:
            self.spread = spread
        account.remember(now)
        account.relax(now)
        context = account.context_tokens / account.decoding if account.decoding else _TYPICAL_CONTEXT_TOKENS
        share = self.latency.prefill_s_per_token * account.prefill_rate.at(now)
        return self.limit.update(
            self.latency,
            tpot_s=tpot_s,
            context_per_sequence=context,
            prefill_share=share,
            used=account.in_flight,
        )

    def _notice_overdue(self, now: float) -> None:
        """The longest silence counts as an observation: at least this slow."""
        permit = next(iter(self.account.overdue()), None)
        if permit is None or self.batch is not None:
            return
        expected = permit.predicted_ttft_s
        if permit.silent:
            expected = permit.predicted_whole_s(_LONG_ANSWER * permit.expected_tokens)
        waited = now - permit.attempt.started
        if waited > 1.5 * expected + 0.1:
            self.latency.observe_overdue(expected, waited, permit.multiplier, now=now)

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds that one prompt token ahead of us takes."""
        latency, account = self.latency, self.account
        step = latency.step_s(account.decoding, account.context_tokens)
        return latency.prefill_s_per_token + step / max(latency.prior.step_token_budget - account.decoding, 64)

    def saturation_ratio(self, *, now: float) -> float:
        """Used share of what binds first: the concurrency limit, or reserved tokens."""
        used = self.account.in_flight / self.limit.value
        return used if self.quota is None else max(used, self.quota.saturation_ratio(now=now))


class Fleet:
    """The members by name; what is learned survives a change of policy for deployments that stay the same."""

    def __init__(self, deployments: tuple[Deployment, ...], bounds: Bounds) -> None:
        self.members = {d.name: Member(d, bounds) for d in deployments}

    def change(self, deployments: tuple[Deployment, ...], bounds: Bounds) -> None:
        """Adopt a new list: a deployment whose address and model stay keeps what it has learned."""
        members: dict[DeploymentName, Member] = {}
        for deployment in deployments:
            old = self.members.get(deployment.name)
            if old is not None and keeps_learned(old.deployment, deployment):
                old.adopt(deployment, bounds)
                members[deployment.name] = old
            else:
                members[deployment.name] = Member(deployment, bounds)
        self.members = members


def _limit_bounds(deployment: Deployment, bounds: Bounds) -> tuple[float, float]:
    high = float(min(deployment.max_in_flight or bounds.limit_max, bounds.limit_max))
    return float(min(bounds.limit_min, high)), high


def _limit(deployment: Deployment, bounds: Bounds) -> Limit:
    low, high = _limit_bounds(deployment, bounds)
    if deployment.kind is Kind.BATCH:
        return FixedLimit(high)
    return StepModelLimit(deployment.name, low=low, high=high)


def _tuner(deployment: Deployment, bounds: Bounds) -> BatchTuner | None:
    if deployment.kind is not Kind.BATCH:
        return None
    return BatchTuner(deployment.batch, max_items=min(deployment.max_items, bounds.batch_items_max))
