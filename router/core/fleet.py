"""Everything the controller knows of each deployment, in one place."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from router.control.allowance import Allowance
from router.control.batching import BatchTuner
from router.control.capacity import Quota
from router.control.circuit import Circuit
from router.control.limits import FirstToken, Sight, Taken
from router.control.profiles import profile_for
from router.control.prompt_cache import PromptCache
from router.control.staleness import Staleness
from router.core.capacity.limits import limit_bounds, limit_of, most_items, room_of, token_limit_of, tuner_of
from router.core.capacity.reserve import Reserve, spills_to
from router.core.capacity.shared import Shared, observed
from router.core.ledger import Account, Permit
from router.core.stability.scores import Scores
from router.domain.control.stability import KnowledgeChanged
from router.domain.deployment import Deployment, DeploymentName, Kind, Lane, LimitKind, Mode
from router.domain.events import Event, LoadObserved
from router.domain.view import DeploymentView, Load, ScrapedLoad
from router.learning.job_wait import JobWait
from router.learning.lane_wait import PRIOR_SIGMA, LaneWait
from router.learning.latency import BATCH_SIGMA, E2E_SIGMA, LatencyModel, Prospect, Residual
from router.policy.meaning.fleet import keeps_learned
from router.policy.policy import Bounds
from router.slo.pacing import CapacityPrice
from router.stats.ewma import Ewma

_WORK_HALF_LIFE_S = 120.0
_TYPICAL_CONTEXT_TOKENS = 1000.0
_LONG_ANSWER = 3.0
"""Times the expected length: a silent call may only be writing a long answer."""


Standing = tuple[Load, Prospect | None, str, float, float | None, float]
"""Load, and what the next request can expect of it (a batch endpoint has a model of its own); why no call may go there,
empty where one may; the limits on calls and on tokens, and how full it is."""


class Limited(NamedTuple):
    """What a deployment is held to: calls and tokens at once (`None`: no bound is known), by which kind of limit."""

    kind: str
    requests: float
    tokens: float | None
    in_flight: int


class Member:
    """One deployment with its ledger, models, limit, quota, circuit and price.

    A permit holds the member it was opened on, so that a call ends where it began also when a policy change has
    meanwhile replaced the member.
    """

    def __init__(self, deployment: Deployment, bounds: Bounds, rng: Random | None = None) -> None:
        self.deployment = deployment
        self.account = Account()
        self.circuit = Circuit(rng)
        self.scores = Scores(deployment.name)
        self.staleness = Staleness()
        self.price = CapacityPrice(high=bounds.capacity_price_max)
        self.price.is_advice = deployment.mode is Mode.ADVISE
        self.typical_work = Ewma(_WORK_HALF_LIFE_S, mean=0.0, weight=0.0)
        self.latency = LatencyModel(deployment.step or profile_for(deployment.model, deployment.tier))
        self.limit = limit_of(deployment, bounds)
        self.tokens = token_limit_of(deployment)
        self.room = room_of(deployment, bounds)
        self.taken = Taken()
        self.quota = Quota(deployment.quota) if deployment.kind is Kind.PROVISIONED else None
        self.reserve = None if self.quota is None else Reserve(deployment, self.quota)
        self._may_learn_size()
        self.allowance: Allowance | None = None
        self.cache: PromptCache | None = None
        self.caches: tuple[PromptCache, ...] = ()
        """All of the fleet."""
        self._begin_lane(deployment.lane)
        self.batch = tuner_of(deployment, bounds)
        self.is_whole = deployment.kind in (Kind.BATCH, Kind.JOB)
        """Whether an answer comes in one piece, with others."""
        self.spread = self.latency.spread(self._e2e_sigma)
        self.standing: Standing | None = None
        """What every request of one instant sees alike, while a window of them is decided."""

    @property
    def _e2e_sigma(self) -> float:
        return E2E_SIGMA if self.batch is None else BATCH_SIGMA

    def restore(self, latency: dict[str, list[float]]) -> None:
        """Take up what a checkpoint kept of the latency model."""
        self.latency.restore(latency)
        self.spread = self.latency.spread(self._e2e_sigma)

    def forget_latency(self) -> None:
        """What is expected of it is again what it was before it was ever called."""
        self.latency = LatencyModel(self.latency.prior)
        self._begin_lane(self.deployment.lane)
        if self.batch is not None:
            self.batch = BatchTuner(self.deployment.batch, max_items=self.batch.max_items)

    def adopt(self, deployment: Deployment, bounds: Bounds) -> None:
        """Take the operator's word on what changed; everything learned stays."""
        old, self.deployment = self.deployment, deployment
        self.price.high = bounds.capacity_price_max
        self.tokens.stated = deployment.limit.tokens
        self.room.least, _ = limit_bounds(deployment, bounds)
        if deployment.mode is not old.mode:
            self.price.put_in_force(is_advice=deployment.mode is Mode.ADVISE)
            self.tokens = token_limit_of(deployment)
            self.room.is_advice = deployment.mode is Mode.ADVISE
            start = None if deployment.mode is Mode.ADVISE else self.limit.value
            self.limit = limit_of(deployment, bounds, start)
        elif deployment.mode is Mode.ADVISE:
            written = limit_of(deployment, bounds)
            if (written.kind, written.value) != (self.limit.kind, self.limit.value):
                self.limit = written
            else:
                self.limit.rebound(*limit_bounds(deployment, bounds))
        elif deployment.limit.kind is old.limit.kind:
            self.limit.rebound(*limit_bounds(deployment, bounds))
        else:
            self.limit = limit_of(deployment, bounds, self.limit.value)
        if self.reserve is not None:
            self.quota = self.reserve.quota if deployment.quota == old.quota else Quota(deployment.quota)
            self.reserve.adopt(deployment, self.quota)
            self._may_learn_size()
        if deployment.batch != old.batch:
            self.batch = tuner_of(deployment, bounds)
        elif self.batch is not None:
            self.batch.max_items = most_items(deployment, bounds)

    def _begin_lane(self, lane: Lane) -> None:
        """Nothing is known of how long the lane keeps a call, so that its first token may come at any time."""
        self.wait: LaneWait | JobWait | None = LaneWait() if lane is Lane.FLEX else None
        if (job := self.deployment.job) is not None:
            self.wait = JobWait(job.collect_s + job.typical_s)
            self.latency.ttft = self.wait.residual
            return
        if self.wait is not None:
            self.latency.ttft = Residual(PRIOR_SIGMA)

    def _may_learn_size(self) -> None:
        if self.quota is not None:
            self.quota.learns = self.deployment.quota is None and self.deployment.mode is not Mode.ADVISE

    def open(self, permit: Permit, view: DeploymentView, *, now: float) -> None:
        """Take a permit: ledger, circuit and quota know of it before the next decision."""
        permit.beside = self.account.in_flight, self.account.held_tokens
        self.account.open(permit, now=now)
        self.standing = None
        self.circuit.on_sent(permit.attempt.id, now=now)
        self.typical_work.update(view.work_s, now=now)
        if self.quota is not None:
            permit.quota = self.quota
            self.quota.reserve(permit.attempt.request.input_tokens, view.output_tokens, now=now)
        permit.cached_tokens = view.cached_tokens
        if self.allowance is not None:
            permit.reserve(self.allowance, now=now)

    def observe_gap(self, load: Load, window_s: float, tokens: int, prefill_tokens: int, *, now: float) -> None:
        """See `LatencyModel.observe_gap`; the limits see the pace of it."""
        self.latency.observe_gap(load, window_s, tokens, prefill_tokens, now=now)
        if window_s > 0.0:
            gap_s = window_s / tokens
            self.limit.observe_gap(gap_s, now=now)
            self.tokens.observe_gap(gap_s, window_s, self.account.held_tokens, now=now)

    def observe_first_token(self, permit: Permit, waited_s: float, *, now: float) -> None:
        """The first token of a call that streams came `waited_s` after sending."""
        account, predicted_s = self.account, permit.predicted_ttft_s
        self.scores.on_first_token(permit, waited_s)
        if self.wait is not None:
            self.wait.observe(waited_s - predicted_s + permit.lane_wait_s, now=now)
        else:
            pace = self.latency.pace
            seen = FirstToken(waited_s, predicted_s, pace, account.decoding, account.context_tokens)
            if (held := self.room.observe_first_token(seen, now=now)) is not None:
                self.tokens.on_full(held)
        self.latency.observe_first_token(predicted_s, waited_s, now=now)

    def on_scraped(self, load: ScrapedLoad) -> None:
        """The server told its own load. What of it is not ours is added to what we see; where all is ours, the used
        share of its memory says how large that is."""
        own = self.account.on_scraped(load.running, load.waiting, load.observed)
        if own is not None and load.kv_ratio is not None:
            self.tokens.tell(own, load.kv_ratio)

    def on_refused(self, *, now: float) -> list[Event]:
        """It said that it is too much: cut what it is too much of. Reserved tokens a minute are no matter of how many
        at once, and are seen to by the quota; nor is what it has lately taken beside as many."""
        calls, tokens = self.account.in_flight, self.account.held_tokens
        taken = self.taken.beside(now=now)
        if self.quota is not None or (tokens > taken[1] and self.tokens.on_refused(calls, tokens, now=now)):
            return []
        update = self.limit.on_refused(calls, now=now) if calls > taken[0] else None
        return [] if update is None else [update]

    def beat(self, tpot_s: float | None, *, now: float) -> list[Event]:
        """The heartbeat: notice silence, forget what is stale, and move the concurrency limit to where the tightest
        TPOT objective allows."""
        account = self.account
        self._notice_overdue(now)
        self.latency.relax(now=now)
        if self.batch is not None:
            self.batch.curve.relax(now=now)
        aged = self._notice_age(now)
        spread = self.latency.spread(self._e2e_sigma)
        if spread != self.spread:
            self.spread = spread
        account.remember(now)
        if account.relax(now):
            self.tokens.on_untold()
        context = account.context_tokens / account.decoding if account.decoding else _TYPICAL_CONTEXT_TOKENS
        share = self.latency.prefill_s_per_token * account.prefill_rate.at(now)
        off = math.hypot(spread.tpot_log_mean, spread.tpot_log_sigma)
        sight = Sight(now, account.in_flight, tpot_s, context, share, off)
        moved = None if self.price.is_held else self.limit.update(self.latency, sight)
        full = self.room.beat(account.in_flight, now=now)
        if full is not None and self.limit.kind is LimitKind.FIXED:
            full = replace(full, advised=True)
        updates = moved, full, self.tokens.beat(account.in_flight, account.held_tokens, now=now), aged
        return [*(update for update in updates if update is not None), *observed(self, now=now)]

    def _notice_age(self, now: float) -> KnowledgeChanged | None:
        """What is old is believed less: predictions are wider, and in the end slower."""
        account, stale, old = self.account, self.staleness, self.staleness.known
        silent_s = 0.0 if self.wait is not None else account.silent_s(now)
        permit = next(iter(account.overdue()), None) if silent_s else None
        has_changed = stale.look(
            now=now,
            scraped_at=account.scraped_at,
            others=account.outside,
            silent_s=silent_s,
            expected_s=0.0 if permit is None else permit.predicted_ttft_s,
        )
        wider, slower = stale.wider, stale.slower
        self.latency.ttft.widen(wider, slower, self.scores.ttft.width)
        self.latency.tpot.widen(wider, slower, self.scores.tpot.width)
        if not has_changed:
            return None
        age_s = max(stale.age_s, silent_s)
        return KnowledgeChanged(self.deployment.name, old.value, stale.known.value, age_s, stale.reason)

    def _notice_overdue(self, now: float) -> None:
        """The longest silence counts as an observation: at least this slow."""
        permit = next(iter(self.account.overdue()), None)
        if self.wait is not None:
            self.wait.observe_waiting(0.0 if permit is None else now - permit.attempt.started)
            return
        if permit is None or self.batch is not None:
            return
        expected = permit.predicted_ttft_s
        if permit.silent:
            expected = permit.predicted_whole_s(_LONG_ANSWER * permit.expected_tokens)
        waited = now - permit.attempt.started
        if waited > 1.5 * expected + 0.1:
            self.latency.observe_overdue(expected, waited, permit.multiplier, now=now)

    def bounds(self) -> tuple[float, float | None, float]:
        """Calls and tokens that may be in flight (`None`: no bound is known), and the used share of its room for either
        (0 where neither is known). A number of calls that the operator fixed stays."""
        limit, room, tokens, account = self.limit, self.room.calls, self.tokens.value, self.account
        calls = limit.value
        if room == math.inf and tokens is None:
            return calls, None, 0.0
        filled = (account.waiting + account.decoding) / room
        if tokens is not None:
            held = (account.context_tokens + account.waiting_tokens) / tokens
            filled = held if held > filled else filled
        if room < calls and limit.kind is not LimitKind.FIXED:
            calls = room
        return calls, tokens, filled

    def limited(self) -> Limited:
        """Its limits as they are now."""
        calls, tokens, _ = self.bounds()
        return Limited(self.limit.kind.value, calls, tokens, self.account.in_flight)

    def observed(self, *, now: float) -> LoadObserved:
        """Its state at a tick."""
        account, is_batch = self.account, self.batch is not None
        calls, tokens, _ = self.bounds()
        return LoadObserved(
            self.deployment.name,
            account.in_flight,
            None if is_batch else calls,
            account.waiting_tokens,
            round(account.load(now, 0.0).context_tokens),
            self.saturation_ratio(now=now),
            self.latency.multiplier,
            "" if is_batch else self.limit.kind.value,
            tokens,
        )

    def saturation_ratio(self, *, now: float) -> float:
        """Used share of what binds first: the concurrency limit, or reserved tokens."""
        used = max(self.account.in_flight / self.limit.value, self.bounds()[2])
        return used if self.sized is None else max(used, self.sized.saturation_ratio(now=now))

    @property
    def sized(self) -> Quota | Allowance | None:
        """What bounds its tokens a minute."""
        return self.allowance if self.quota is None else self.quota


class Fleet:
    """The members by name; what is learned survives a change of policy for deployments that stay the same."""

    def __init__(self, deployments: tuple[Deployment, ...], bounds: Bounds, rng: Random | None = None) -> None:
        self._rng = rng
        self.members = {d.name: Member(d, bounds, rng) for d in deployments}
        self._shared = Shared()
        self.has_blind = False
        """Whether nothing is known any more of one of them."""
        self._appraise()

    def change(self, deployments: tuple[Deployment, ...], bounds: Bounds) -> None:
        """Adopt a new list: a deployment whose address and model stay keeps what it has learned."""
        members: dict[DeploymentName, Member] = {}
        for deployment in deployments:
            old = self.members.get(deployment.name)
            if old is not None and keeps_learned(old.deployment, deployment):
                old.adopt(deployment, bounds)
                members[deployment.name] = old
            else:
                members[deployment.name] = Member(deployment, bounds, self._rng)
        self.members = members
        self._appraise()

    def limits(self) -> dict[str, Limited]:
        """The limit of each deployment that is not driven by batches."""
        return {name: m.limited() for name, m in self.members.items() if m.batch is None}

    def _appraise(self) -> None:
        """What each reserved token would cost where load spills to, and whether there are batch jobs."""
        self._shared.hand_out(self.members.values())
        self.has_jobs = any(m.deployment.job is not None for m in self.members.values())
        deployments = [m.deployment for m in self.members.values()]
        for member in self.members.values():
            if member.quota is not None:
                member.quota.on_demand = spills_to(member.deployment, deployments)
