"""The controller: admits, decides, starts, and keeps its own heartbeat. What comes of a call is `core.feedback`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random

from router.complexity.estimator import Estimator, digest_of
from router.core.admission import Admission
from router.core.attempts import RetryBudget
from router.core.capacity.patience import Patience
from router.core.capacity.promised import Promised
from router.core.capacity.scaling import Scaling
from router.core.cascade.option import asks_logprobs
from router.core.cascade.second import Second
from router.core.drift.watch import Drift
from router.core.duals import Duals
from router.core.evidence import Hold, Memory, binding, nobody, shed
from router.core.fleet import Fleet, Member
from router.core.judging.judging import Judging, accounts
from router.core.learned.learning import Learning
from router.core.ledger import Permit
from router.core.prefix.prompts import points
from router.core.queueing.outlook import Outlook
from router.core.rollouts.gate import Asked, Verdict
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.saved import SavedRollouts
from router.core.rollouts.shadow import compared
from router.core.spending.spending import Spending
from router.core.stability.fixed import BLIND, are_blind, first
from router.core.stability.tuning import Tuning
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.core.weigher import Weigher
from router.core.window.window import Window
from router.domain.decision import Candidate, Decision, DecisionId, Exclusion, Prices
from router.domain.deployment import DeploymentName, Tier
from router.domain.errors import Expired
from router.domain.events import Event, HealthChanged, PolicyApplied, ShadowCompared
from router.domain.learned import Part
from router.domain.outcome import Attempt, AttemptId
from router.domain.request import Request
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView, ScrapedLoad
from router.learning.ceiling import Ceilings
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.learning.variants.descent import descents
from router.policy.diff import difference
from router.policy.policy import Policy
from router.policy.profiles import filled_in
from router.routing.filters import holds
from router.routing.need import Need
from router.routing.profile import Profile, standard

_ROLLOUTS_EVERY = 10
"""Heartbeats from one look at rollouts to the next."""

Lane = tuple[frozenset[str], float | None, str]


class Controller:
    """One policy, one fleet, and all that was learned about it. Every method takes the time it happens at."""

    def __init__(
        self,
        policy: Policy,
        estimator: Estimator,
        *,
        rng: Random,
        name: str = "d",
        profile: Profile | None = None,
    ) -> None:
        self.estimator = estimator
        self.profile = profile or standard()
        self.fleet = Fleet(policy.deployments, policy.bounds, Random(hash(rng.getstate()[1]) ^ 1))
        self.lengths = LengthModel()
        self.qualities = QualityModel()
        self.drift = Drift(self.qualities)
        self.ceilings = Ceilings()
        self.duals = Duals(policy)
        self.tuning = Tuning(self.fleet, self.duals)
        self.memory = Memory()
        self.retries = RetryBudget()
        self._viewer = Viewer(self.lengths, self.qualities, self.ceilings)
        self.spending = Spending(self._viewer)
        self.judging = Judging(self.fleet, self._viewer, self.spending, Random(hash(rng.getstate()[1])))
        self.scaling = Scaling()
        self._weigher = Weigher(self.fleet, self.profile, self.duals, self._viewer, self.spending, self.scaling)
        self.patience = Patience(self._weigher, self._viewer)
        self.outlook = Outlook(self._weigher, self._viewer)
        self.window = Window(self.fleet, self._weigher, self._viewer)
        self.checks, self.second = self._viewer.checks, Second(self._weigher, self._viewer, self.memory, rng)
        self.learning = Learning(
            digest_of(estimator),
            {
                Part.QUALITY: self.qualities,
                Part.LENGTHS: self.lengths,
                Part.CEILINGS: self.ceilings,
                Part.CHECKS: self.checks,
            },
        )
        self._rng, self._shadow_rng = rng, Random(0)
        self._name, self._count, self._beats = name, 0, 0
        self.rollouts = Rollouts(policy)
        self._adopt()

    @property
    def policy(self) -> Policy:
        """The snapshot in force; an edit that is on its way by a rollout stands beside it."""
        return self.rollouts.policy

    def _adopt(self) -> None:
        policy = self.policy
        self._weigher.forget()
        self.qualities.descents = descents(policy.deployments)
        self.learning.hold(m.latency for m in self.fleet.members.values())
        self._admission = Admission(policy, self.rollouts, self.estimator)
        self.duals.adopt(policy, self.rollouts.classes())
        self.tuning.adopt(policy)
        self.spending.adopt((*policy.classes, *accounts(policy.classes)))
        self._promised = Promised(policy.classes)
        large = [d.price for d in policy.deployments if d.tier is Tier.LARGE and d.price.output_usd_per_mtok > 0.0]
        self.reference_price = min(large, key=lambda p: p.output_usd_per_mtok, default=None)

    def apply(self, policy: Policy, *, now: float, at: float) -> list[Event]:
        """Take up an edit, at once or by the rollouts of its classes; requests in flight end under the snapshot they
        began with."""
        old = self.rollouts.written
        if policy.digest == old.digest:
            return []
        events = self.rollouts.take_up(policy, now=now, at=at)
        self.fleet.change(policy.deployments, policy.bounds)
        self._adopt()
        return [PolicyApplied(old.digest, policy.digest, tuple(difference(old, policy)), at), *events]

    def resume(self, saved: SavedRollouts, *, now: float, at: float) -> list[Event]:
        """Take up rollouts where an earlier life of the process left them."""
        events = self.rollouts.resume(saved, now=now, at=at)
        self._adopt()
        return events

    def hear(self, asked: Asked, verdict: Verdict, *, now: float, at: float) -> list[Event]:
        """What the decision log says of an edit that waits for it."""
        events = self.rollouts.hear(asked, verdict, now=now, at=at)
        if events:
            self._adopt()
        return events

    def admit(self, request: Request, *, now: float) -> Ticket:
        """Class, features, complexity, deadline; raises `RequestError` or `Expired`."""
        ticket = self._admission.admit(request, now=now)
        self.drift.see(ticket)
        self.tuning.see(ticket)
        self._promised.see(ticket.request_class, now=now)
        return ticket

    def decide(self, ticket: Ticket, *, now: float) -> Decision | Hold:
        """Pick a deployment, or say that none has room yet; raises `Rejected`, `Expired` or `RequestError`."""
        if ticket.deadline is not None and ticket.deadline <= now:
            raise Expired("the deadline passed before a deployment had room")
        need = self._weigher.need(ticket, now)
        if ticket.held_since is not None:
            if need.purse is not None and need.purse.is_shut:
                self.spending.on_weighed(ticket.request_class.name, need.purse, served=False)
                return Hold((), for_budget=True)
            ticket.release(now)
            need = self._weigher.need(ticket, now)
        views, candidates, excluded = self._weigher.weigh(ticket, need, observe=not ticket.looked)
        ticket.looked = True
        if need.purse is not None and not ticket.tried:
            self.spending.on_weighed(ticket.request_class.name, need.purse, served=bool(candidates))
        if not candidates:
            return nobody(excluded, need.purse)
        seen = views
        if ticket.request_class.budget.mean_usd_per_request is not None:
            views, candidates, excluded = self.duals.paces.afforded(ticket, need, (views, candidates, excluded))
        if ticket.request_class.patience_s and self.patience.keeps(ticket, need, views, candidates, excluded):
            return Hold(excluded)
        index, probabilities = self._pick(candidates, views, need)
        if index is None:
            if need.dearness < 1.0 and any(e.code == "at_limit" for e in excluded):
                return Hold(excluded)
            self.duals.on_refused(ticket, seen)
            raise shed(candidates)
        weighed = tuple(
            [
                Candidate(c.deployment, c.score, c.terms, p, c.spread, c.fallen) if p else c
                for c, p in zip(candidates, probabilities, strict=True)
            ]
        )
        self.duals.on_decided(ticket, views[index], seen, excluded, now=now)
        prices = Prices(need.floor_price, need.usd_price, {v.deployment.name: v.capacity_price for v in views})
        decision = self._decision(ticket, need, index, weighed, tuple(excluded), prices)
        ticket.decision, ticket.view = decision, views[index]
        return decision

    def _pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need
    ) -> tuple[int | None, Sequence[float]]:
        """The picker's choice; where nothing is known of any of them any more, the first of the fixed order."""
        if are_blind(self.fleet, candidates):
            found = first(need.request_class, views)
            return found, [float(i == found) for i in range(len(views))]
        return self.profile.picker.pick(candidates, views, need, rng=self._rng)

    def compare(self, ticket: Ticket, *, now: float) -> ShadowCompared | None:
        """What an edit in the shadow would have decided just now, where there is one."""
        if ticket.shadow is None:
            return None
        edit = partial(self._admission.ticket, ticket.original, ticket.shadow.placed, ticket.scored)
        return compared(ticket, edit, self._weigher, self._shadow_rng, now=now)

    def _decision(
        self,
        ticket: Ticket,
        need: Need,
        index: int,
        weighed: tuple[Candidate, ...],
        excluded: tuple[Exclusion, ...],
        prices: Prices,
    ) -> Decision:
        request = ticket.request
        self._count += 1
        return Decision(
            id=DecisionId(f"{self._name}-{self._count:x}"),
            request_id=request.id,
            request_class=ticket.request_class.name,
            tenant=request.tenant,
            at=request.at + (need.now - request.arrived),
            now=need.now,
            policy=ticket.policy.digest,
            picker=self.profile.picker.name,
            complexity=ticket.scored.complexity,
            features=ticket.scored.features,
            candidates=weighed,
            excluded=excluded,
            chosen=weighed[index].deployment,
            propensity=weighed[index].propensity,
            binding=BLIND
            if are_blind(self.fleet, weighed)
            else binding(weighed, index, ticket.forced, excluded if need.tried else ()),
            prices=prices,
            input_tokens=request.input_tokens,
            arm=ticket.arm,
            use_case=ticket.scored.use_case,
            topic=request.topic,
            model=request.model,
            asked_class=request.request_class,
            waited_s=need.waited_s,
            deadline_s=None if request.deadline is None else request.deadline - request.arrived,
        )

    def start(self, ticket: Ticket, *, now: float) -> tuple[Attempt, Permit]:
        """Open a permit for the decision just made; the call goes out next."""
        decision, view = ticket.decision, ticket.view
        assert decision is not None
        assert view is not None
        if ticket.kept is not None:
            self.patience.on_gone(ticket, view.deployment, now=now)
        ticket.attempts += 1
        request_class, request = ticket.request_class, ticket.request
        member, most = self.fleet.members[view.deployment.name], self._viewer.max_tokens(ticket, view.deployment.model)
        filled = filled_in(ticket.parameters, request, view.deployment, most)
        attempt = Attempt(
            id=AttemptId(f"{decision.id}.{ticket.attempts}"),
            decision_id=decision.id,
            request=request,
            deployment=view.deployment,
            number=ticket.attempts,
            started=now,
            deadline=ticket.deadline,
            stream=request.stream or _is_watched(request_class),
            max_tokens=filled.max_tokens,
            temperature=filled.temperature,
            top_p=filled.top_p,
            top_k=filled.top_k,
            logprobs=ticket.checks is not None and asks_logprobs(ticket, view.deployment),
            cache_after=points(ticket, member, now=now) if member.caches else (),
        )
        permit = Permit(
            attempt,
            member,
            predicted_ttft_s=view.ttft_s,
            predicted_tpot_s=view.tpot_s,
            expected_tokens=view.output_tokens,
        )
        member.open(permit, view, now=now)
        if request_class.budget.usd_per_day is not None:
            self.spending.reserve(ticket, attempt, now=now)
        self.memory.remember(ticket, view)
        return attempt, permit

    def routable(self, ticket: Ticket) -> frozenset[str]:
        """Deployments that may serve the ticket as far as its class, its sender and its size allow."""
        members = self._weigher.scope(ticket).members
        return frozenset(m.deployment.name for m in members if holds(m.deployment, ticket.request))

    def lane(self, ticket: Ticket) -> Lane:
        """What those who wait for the same have in common: who may still serve them, and what it may cost; and their
        class, where it has a budget of the day, with what becomes of them when that is spent. Who is kept for a
        cheaper lane is in nobody's way."""
        budget, name = ticket.request_class.budget, ticket.request_class.name
        own = "" if budget.usd_per_day is None else f"{name} {budget.when_spent}"
        own += "" if ticket.kept is None else f" kept for {ticket.kept.lane}"
        return self.routable(ticket) - ticket.tried, budget.usd_per_request, own

    def on_load(self, load: ScrapedLoad) -> None:
        """A server told its own load."""
        member = self.fleet.members.get(DeploymentName(load.deployment))
        if member is not None:
            member.on_scraped(load)

    def tick(self, *, now: float, at: float) -> list[Event]:
        """Overdue calls, limits, prices and rollouts; a few times a second. `at` is the wall time of `now`."""
        members = self.fleet.members.values()
        events = [*self.learning.told(), *self.patience.told()]
        events += self.drift.tick(now=now, at=at)
        events += self.duals.tick(members, now=now)
        events += [*self._roll_out(now=now, at=at), *self.tuning.tick(now=now)]
        events += self.spending.tick(now=now, at=at)
        for member in members:
            events += member.beat(self._promised.tpot_s(member, now=now), now=now)
            events += [*self.health(member), *member.scores.tick(now=now)]
            if member.reserve is not None:
                events += member.reserve.tick(member.price.in_force, now=now)
            events.append(member.observed(now=now))
        return [*events, *self.scaling.tick(members, self._promised, now=now)]

    def _roll_out(self, *, now: float, at: float) -> list[Event]:
        self._beats += 1
        if self._beats % _ROLLOUTS_EVERY:
            return []
        events = self.rollouts.tick(now=now, at=at)
        if events:
            self._adopt()
        return [*events, *self.rollouts.observed()]

    @staticmethod
    def health(member: Member) -> list[Event]:
        """Every change of health since the last was told."""
        name = member.deployment.name
        return [HealthChanged(name, old.value, new.value, why) for old, new, why in member.circuit.take()]


def _is_watched(request_class: RequestClass) -> bool:
    """Whether tokens must be seen as they come: for what is promised of them, or to tell silence from a long answer."""
    objectives = request_class.objectives
    return objectives.ttft is not None or objectives.tpot is not None or request_class.hedge_after_s is not None
