"""The controller: admits, decides, starts, and keeps its own heartbeat. What comes of a call is `core.feedback`."""

from __future__ import annotations

from random import Random

from router.complexity.estimator import Estimator
from router.control.limits import FixedLimit
from router.core.admission import Admission
from router.core.attempts import RetryBudget
from router.core.duals import Duals
from router.core.evidence import Memory, binding
from router.core.fleet import Fleet, Member
from router.core.ledger import Permit
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.domain.decision import Candidate, Decision, DecisionId, Exclusion, Prices
from router.domain.deployment import DeploymentName, Tier
from router.domain.errors import Expired, Rejected, RequestError
from router.domain.events import Event, HealthChanged, LoadObserved, PolicyApplied
from router.domain.outcome import Attempt, AttemptId
from router.domain.request import Capability, Request
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView, ScrapedLoad
from router.learning.length import LengthModel
from router.learning.quality import QualityModel
from router.policy.diff import difference
from router.policy.policy import Policy
from router.routing.filters import PASSING, Filter, bar, holds
from router.routing.need import Need
from router.routing.profile import Profile, standard

_NEVER_FITS = frozenset({"lacks_capability", "context_too_long", "exceeds_quota"})


_SCOPES = 1024

Scope = tuple[tuple[Member, ...], tuple[Exclusion, ...]]
Lane = tuple[frozenset[str], float | None]


class Hold:
    """Nothing may take the request right now, but something may soon."""

    __slots__ = ("excluded",)

    def __init__(self, excluded: list[Exclusion]) -> None:
        self.excluded = excluded


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
        self.fleet = Fleet(policy.deployments, policy.bounds)
        self.lengths = LengthModel()
        self.qualities = QualityModel()
        self.duals = Duals(policy)
        self.memory = Memory()
        self.retries = RetryBudget()
        self._viewer = Viewer(self.lengths, self.qualities)
        self._rng = rng
        self._name = name
        self._count = 0
        self._adopt(policy)

    def _adopt(self, policy: Policy) -> None:
        self.policy = policy
        self._scopes: dict[tuple[str, str, str | None, frozenset[Capability]], Scope] = {}
        self._admission = Admission(policy, self.estimator)
        tpots = [c.objectives.tpot.threshold_s for c in policy.classes if c.objectives.tpot is not None]
        self._tightest_tpot = min(tpots, default=None)
        large = [d.price for d in policy.deployments if d.tier is Tier.LARGE and d.price.output_usd_per_mtok > 0.0]
        self.reference_price = min(large, key=lambda p: p.output_usd_per_mtok, default=None)

    def apply(self, policy: Policy, *, at: float) -> list[Event]:
        """Swap the policy; requests in flight end under the one they began with."""
        old = self.policy
        if policy.digest == old.digest:
            return []
        self.fleet.change(policy.deployments, policy.bounds)
        self.duals.adopt(policy)
        self._adopt(policy)
        return [PolicyApplied(old.digest, policy.digest, tuple(difference(old, policy)), at)]

    def admit(self, request: Request, *, now: float) -> Ticket:
        """Class, features, complexity, deadline; raises `RequestError` or `Expired`."""
        return self._admission.admit(request, now=now)

    def decide(self, ticket: Ticket, *, now: float) -> Decision | Hold:
        """Pick a deployment, or say that none has room yet; raises `Rejected`, `Expired` or `RequestError`."""
        if ticket.deadline is not None and ticket.deadline <= now:
            raise Expired("the deadline passed before a deployment had room")
        profile, need = self.profile, self._need(ticket, now)
        members, barred = self._scope(ticket)
        views: list[DeploymentView] = []
        candidates: list[Candidate] = []
        excluded = list(barred)
        for member in members:
            view = self._viewer.view(member, ticket, now=now)
            why = _excluded(view, need, profile.filters)
            if why is None:
                views.append(view)
                candidates.append(profile.scorer(view, need))
            else:
                excluded.append(why)
            if not ticket.looked and (why is None or why.code == "at_limit"):
                member.price.observe(view.pressure if _is_used(view) else 0.0)
        ticket.looked = True
        if not candidates:
            return _none(excluded)
        index, probabilities = profile.picker.pick(candidates, views, need, rng=self._rng)
        if index is None:
            raise _shed(candidates)
        weighed = tuple(
            Candidate(c.deployment, c.score, c.terms, p) if p else c
            for c, p in zip(candidates, probabilities, strict=True)
        )
        self.duals.on_decided(ticket, views[index], views, now=now)
        prices = Prices(need.floor_price, need.usd_price, {v.deployment.name: v.capacity_price for v in views})
        decision = self._decision(ticket, need, index, weighed, tuple(excluded), prices)
        ticket.decision, ticket.view = decision, views[index]
        return decision

    def _scope(self, ticket: Ticket) -> Scope:
        """Who may serve by class, name and ability, and why the others may not; the same for requests of one kind. A
        request that began under an older policy keeps that policy's class."""
        forced, needs = ticket.forced, ticket.request.needs
        key = (ticket.policy.digest, ticket.request_class.name, forced, needs)
        scope = self._scopes.get(key)
        if scope is None:
            pairs = [(m, bar(m.deployment, forced, needs, ticket.request_class)) for m in self.fleet.members.values()]
            scope = tuple(m for m, why in pairs if why is None), tuple(why for _, why in pairs if why is not None)
            if len(self._scopes) >= _SCOPES:
                self._scopes.clear()
            self._scopes[key] = scope
        return scope

    def _need(self, ticket: Ticket, now: float) -> Need:
        request_class = ticket.request_class
        return Need(
            ticket.request,
            request_class,
            now,
            now - ticket.request.arrived,
            self.duals.floor(request_class),
            self.duals.usd(request_class),
            ticket.tried,
            not self.profile.paced,
        )

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
            at=request.at + need.waited_s,
            now=need.now,
            policy=ticket.policy.digest,
            picker=self.profile.picker.name,
            complexity=ticket.scored.complexity,
            features=ticket.scored.features,
            candidates=weighed,
            excluded=excluded,
            chosen=weighed[index].deployment,
            propensity=weighed[index].propensity,
            binding=binding(weighed, index, ticket.forced),
            prices=prices,
            input_tokens=request.input_tokens,
        )

    def start(self, ticket: Ticket, *, now: float) -> tuple[Attempt, Permit]:
        """Open a permit for the decision just made; the call goes out next."""
        decision, view = ticket.decision, ticket.view
        assert decision is not None
        assert view is not None
        ticket.attempts += 1
        request_class, request = ticket.request_class, ticket.request
        parameters = request_class.parameters
        attempt = Attempt(
            id=AttemptId(f"{decision.id}.{ticket.attempts}"),
            decision_id=decision.id,
            request=request,
            deployment=view.deployment,
            number=ticket.attempts,
            started=now,
            deadline=ticket.deadline,
            stream=request.stream or _is_watched(request_class),
            max_tokens=parameters.max_tokens if request.max_tokens is None else None,
            temperature=parameters.temperature,
            top_p=parameters.top_p,
        )
        member = self.fleet.members[view.deployment.name]
        permit = Permit(
            attempt,
            member,
            predicted_ttft_s=view.ttft_s,
            predicted_tpot_s=view.tpot_s,
            expected_tokens=view.output_tokens,
        )
        member.open(permit, view, now=now)
        self.memory.remember(ticket, view)
        return attempt, permit

    def routable(self, ticket: Ticket) -> frozenset[str]:
        """Deployments that may serve the ticket as far as its class, its sender and its size allow."""
        members, _ = self._scope(ticket)
        return frozenset(m.deployment.name for m in members if holds(m.deployment, ticket.request))

    def lane(self, ticket: Ticket) -> Lane:
        """What those who wait for the same have in common: who may still serve them, and what it may cost."""
        return self.routable(ticket) - ticket.tried, ticket.request_class.budget.usd_per_request

    def on_load(self, load: ScrapedLoad) -> None:
        """A server told its own load: what of it is not ours is added to what we see."""
        member = self.fleet.members.get(DeploymentName(load.deployment))
        if member is not None:
            member.account.on_scraped(load.running + load.waiting, load.observed)

    def tick(self, *, now: float) -> list[Event]:
        """Overdue calls, limits and prices; a few times a second."""
        members = self.fleet.members.values()
        events = self.duals.tick(members, now=now)
        for member in members:
            update = member.beat(self._tightest_tpot, now=now)
            if update is not None:
                events.append(update)
            events += self.health(member)
            events.append(_observed(member, now))
        return events

    @staticmethod
    def health(member: Member) -> list[Event]:
        """The event of a change of health since the last was told."""
        old, new = member.told_health, member.circuit.health
        if new is old:
            return []
        member.told_health = new
        return [HealthChanged(member.deployment.name, old.value, new.value, member.circuit.reason)]


def _excluded(view: DeploymentView, need: Need, filters: tuple[Filter, ...]) -> Exclusion | None:
    for test in filters:
        why = test(view, need)
        if why is not None:
            return why
    return None


def _is_watched(request_class: RequestClass) -> bool:
    """Whether tokens must be seen as they come: for what is promised of them, or to tell silence from a long answer."""
    objectives = request_class.objectives
    return objectives.ttft is not None or objectives.tpot is not None or request_class.hedge_after_s is not None


def _is_used(view: DeploymentView) -> bool:
    """Whether anything is in flight there: what is idle is not scarce, however slow it is."""
    return view.load.sequences > 0 or view.load.waiting_sequences > 0


def _none(excluded: list[Exclusion]) -> Hold:
    codes = {e.code for e in excluded}
    if codes & PASSING:
        return Hold(excluded)
    details = "; ".join(f"{e.deployment}: {e.detail}" for e in excluded if e.code != "not_allowed")
    if codes & _NEVER_FITS and codes <= _NEVER_FITS | {"not_allowed"}:
        raise RequestError(f"no deployment can take this request: {details}", code="unsupported")
    if "too_dear" in codes:
        raise Rejected(f"no deployment is cheap enough for this request: {details}", code="over_budget")
    raise Rejected(f"no deployment may serve this request: {details or 'the class allows none'}", code="no_deployment")


def _shed(candidates: list[Candidate]) -> Rejected:
    best = max(candidates, key=lambda c: c.score)
    return Rejected(
        f"no deployment can answer well enough in time: best is {best.deployment} with P(in SLO) "
        f"{best.terms.p_slo:.2f} and P(adequate) {best.terms.p_adequate:.2f}",
        code="overloaded",
        retry_after_s=1.0,
    )


def _observed(member: Member, now: float) -> LoadObserved:
    account = member.account
    load = account.load(now, 0.0)
    return LoadObserved(
        member.deployment.name,
        account.in_flight,
        None if isinstance(member.limit, FixedLimit) else member.limit.value,
        account.waiting_tokens,
        round(load.context_tokens),
        member.saturation_ratio(now=now),
        member.latency.multiplier,
    )
