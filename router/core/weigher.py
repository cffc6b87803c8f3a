"""What is every deployment worth to a request, right now? Changes nothing but what presses on the prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import inf

from msgspec import Struct

from router.core.capacity.scaling import Scaling
from router.core.cascade.option import Asking, Plan, rival, with_option
from router.core.duals import Duals
from router.core.fleet import Fleet, Member
from router.core.floor.doubt import FAMILIAR, doubted
from router.core.floor.reach import may_give, within_reach
from router.core.spending.spending import Spending
from router.core.ticket import Ticket
from router.core.views import Viewer, aim_of
from router.domain.decision import Candidate, Exclusion
from router.domain.deployment import DeploymentName
from router.domain.request import Capability
from router.domain.view import DeploymentView
from router.routing.fallback import earliest
from router.routing.filters import Filter, bar, biting, concerning
from router.routing.need import Need
from router.routing.profile import Profile

_SCOPES = 1024

Weighed = tuple[list[DeploymentView], list[Candidate], list[Exclusion]]


class Scope(Struct, frozen=True):
    """Who may serve requests of one kind, why the others may not, and the filters that can keep any of them out."""

    members: tuple[Member, ...]
    barred: tuple[Exclusion, ...]
    filters: tuple[Filter, ...]


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
            purse = self._spending.purse(ticket, self.scope(ticket).members, now=now)
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
        scope = self.scope(ticket)
        filters = biting(scope.filters, need)
        seen = self._viewer.views(scope.members, ticket, aim_of(ticket, need.now))
        views: list[DeploymentView] = []
        excluded, unable = list(scope.barred), set()
        for view in seen:
            for test in filters:
                why = test(view, need)
                if why is not None:
                    excluded.append(why)
                    if why.code != "at_limit":
                        unable.add(why.deployment)
                    break
            else:
                views.append(view)
        candidates = self._profile.scorer(views, need)
        if observe:
            self._press(zip(scope.members, seen, strict=True), unable, need)
        if need.floor_price and ticket.scored.novelty > FAMILIAR:
            candidates = doubted(candidates, views, price=need.floor_price, novelty=ticket.scored.novelty)
        if may_give(need):
            candidates = within_reach(candidates, seen, unable, need)
        if ticket.checks is not None and not need.tried:
            candidates = self._with_options(ticket, need, views, candidates)
        if need.tried and ticket.request_class.fallback:
            kept, later = earliest(ticket.request_class.fallback, views)
            return [views[i] for i in kept], [candidates[i] for i in kept], excluded + later
        return views, candidates, excluded

    def _press(
        self, seen: Iterable[tuple[Member, DeploymentView]], unable: Collection[DeploymentName], need: Need
    ) -> None:
        """A request presses on the prices of all that could serve it, had they room; and counts for the replicas of
        whoever would serve it best."""
        wanted, most = None, -inf
        duty, usd_price = 1.0 + need.floor_price, need.usd_price
        for member, view in seen:
            if unable and view.deployment.name in unable:
                continue
            load = view.load  # what is idle is not scarce, however slow it is
            if view.pressure is not None:
                member.price.observe(view.pressure if load.sequences or load.waiting_sequences else 0.0)
            useful = duty * view.p_adequate
            if member.wait is not None:  # replicas make no lane sooner
                useful *= view.p_slo
            worth = useful - usd_price * (view.cost_usd + view.bid_usd)
            if worth > most:
                wanted, most = view, worth
        if wanted is not None:
            self._scaling.offer(wanted, now=need.now)

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
        return later, self._profile.scorer((later,), need)[0].score

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
            members = tuple(m for m, why in pairs if why is None)
            barred = tuple(why for _, why in pairs if why is not None)
            is_bounded = any(m.sized is not None for m in members)
            filters = concerning(self._profile.filters, [m.deployment for m in members], is_bounded=is_bounded)
            scope = Scope(members, barred, filters)
            if len(self._scopes) >= _SCOPES:
                self._scopes.clear()
            self._scopes[key] = scope
        return scope
