"""What is every deployment worth to a request, right now? Changes nothing but what presses on the prices."""

from __future__ import annotations

from math import inf

from router.core.capacity.scaling import Scaling
from router.core.cascade.option import Asking, Plan, rival, with_option
from router.core.duals import Duals
from router.core.fleet import Fleet, Member
from router.core.floor.doubt import FAMILIAR, doubted
from router.core.spending.spending import Spending
from router.core.ticket import Ticket
from router.core.views import Viewer, aim_of
from router.domain.decision import Candidate, Exclusion
from router.domain.request import Capability
from router.domain.view import DeploymentView
from router.routing.fallback import earliest
from router.routing.filters import Filter, bar, biting, has_hours
from router.routing.need import Need
from router.routing.profile import Profile

_SCOPES = 1024

Scope = tuple[tuple[Member, ...], tuple[Exclusion, ...]]
Weighed = tuple[list[DeploymentView], list[Candidate], list[Exclusion]]


class Weigher:
    """Filters and scores the members of a fleet."""

    def __init__(
        self, fleet: Fleet, profile: Profile, duals: Duals, viewer: Viewer, spending: Spending, scaling: Scaling
    ) -> None:
        self._fleet, self._profile, self._duals, self._viewer = fleet, profile, duals, viewer
        self._spending, self._scaling = spending, scaling
        self.forget()

    @property
    def profile(self) -> Profile:
        """Filters, scorer and picker in use."""
        return self._profile

    def forget(self) -> None:
        """Another policy: who may serve whom is asked anew."""
        self._scopes: dict[tuple[str, str, str, str | None, frozenset[Capability]], Scope] = {}

    def need(self, ticket: Ticket, now: float) -> Need:
        """The request's side of the decision."""
        request_class, purse = ticket.request_class, None
        if request_class.budget.usd_per_day is not None and self._profile.paced:
            purse = self._spending.purse(ticket, self.scope(ticket)[0], now=now)
        return Need(
            ticket.request,
            request_class,
            now,
            now - ticket.began,
            self._duals.floor(request_class),
            self._duals.usd(request_class),
            ticket.tried,
            not self._profile.paced,
            purse,
            *self._duals.shares.terms(ticket.request.tenant),
        )

    def weigh(self, ticket: Ticket, need: Need, *, observe: bool) -> Weighed:
        """What every deployment is worth to the request, or why it cannot serve. `observe`: the request counts as one
        that presses on their capacity."""
        profile, now = self._profile, need.now
        filters = biting(profile.filters, need)
        if self._fleet.has_jobs:
            filters = (*filters, has_hours)
        see, score, aim = self._viewer.view, profile.scorer, aim_of(ticket, now)
        members, barred = self.scope(ticket)
        views: list[DeploymentView] = []
        candidates: list[Candidate] = []
        excluded = list(barred)
        wanted, most = None, -inf
        duty, usd_price = 1.0 + need.floor_price, need.usd_price
        for member in members:
            view = see(member, ticket, now=now, aim=aim)
            why = _excluded(view, need, filters)
            if why is None:
                views.append(view)
                candidates.append(score(view, need))
            else:
                excluded.append(why)
            if observe and (why is None or why.code == "at_limit"):
                load = view.load  # what is idle is not scarce, however slow it is
                member.price.observe(view.pressure if load.sequences or load.waiting_sequences else 0.0)
                in_time = view.p_slo if member.wait is not None else 1.0  # replicas make no lane sooner
                worth = duty * view.p_adequate * in_time - usd_price * (view.cost_usd + view.bid_usd)
                if worth > most:
                    wanted, most = view, worth
        if wanted is not None:
            self._scaling.offer(wanted, now=now)
        if need.floor_price and ticket.scored.novelty > FAMILIAR:
            candidates = doubted(candidates, views, price=need.floor_price, novelty=ticket.scored.novelty)
        if ticket.checks is not None and not need.tried:
            candidates = self._with_options(ticket, need, views, candidates)
        if need.tried and ticket.request_class.fallback:
            kept, later = earliest(ticket.request_class.fallback, views)
            return [views[i] for i in kept], [candidates[i] for i in kept], excluded + later
        return views, candidates, excluded

    def _with_options(
        self, ticket: Ticket, need: Need, views: list[DeploymentView], candidates: list[Candidate]
    ) -> list[Candidate]:
        """With what it is worth of each that its answer can be made again elsewhere: by whoever scores best of those
        that are likelier to be adequate, seen from when the first answer is expected to be there."""
        weighed: list[Candidate] = []
        asking, asked = self._asking(ticket), []
        for view, candidate in zip(views, candidates, strict=True):
            other = rival(view, views, candidates)
            if other is None:
                weighed.append(candidate)
                continue
            plans = [Plan(ticket, need, view, self._second(ticket, need, other, view.e2e_s))]
            if asking is not None:
                second = self._second(ticket, need, other, view.e2e_s + asking.wait_s)
                plans.append(Plan(ticket, need, view, second, asking))
            with_it, asks = with_option(candidate, plans, self._viewer.checks)
            weighed.append(with_it)
            if asks:
                asked.append(view.deployment.name)
        ticket.asking = frozenset(asked)
        return weighed

    def _second(self, ticket: Ticket, need: Need, view: DeploymentView, after_s: float) -> tuple[DeploymentView, float]:
        """A deployment as it would be called `after_s` from now, and its score."""
        member = self._fleet.members[view.deployment.name]
        later = self._viewer.later(view, member, ticket, after_s=after_s, now=need.now)
        return later, self._profile.scorer(later, need).score

    def _asking(self, ticket: Ticket) -> Asking | None:
        """What is expected of whoever the sender names; `None` where nobody is."""
        if ticket.checks is None or ticket.checks.callback is None:
            return None
        return Asking(*self._viewer.checks.verdicts.expect(ticket.request_class.name))

    def scope(self, ticket: Ticket) -> Scope:
        """Who may serve by class, name and ability, and why the others may not; the same for requests of one kind. A
        request that began under an older policy keeps that policy's class."""
        forced, needs = ticket.forced, ticket.request.needs
        key = (ticket.policy.digest, ticket.request_class.name, ticket.arm, forced, needs)
        scope = self._scopes.get(key)
        if scope is None:
            pairs = [(m, bar(m.deployment, forced, needs, ticket.request_class)) for m in self._fleet.members.values()]
            scope = tuple(m for m, why in pairs if why is None), tuple(why for _, why in pairs if why is not None)
            if len(self._scopes) >= _SCOPES:
                self._scopes.clear()
            self._scopes[key] = scope
        return scope


def _excluded(view: DeploymentView, need: Need, filters: tuple[Filter, ...]) -> Exclusion | None:
    for test in filters:
        why = test(view, need)
        if why is not None:
            return why
    return None
