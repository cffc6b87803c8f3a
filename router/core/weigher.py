"""What is every deployment worth to a request, right now? Changes nothing but what presses on the prices."""

from __future__ import annotations

from router.core.duals import Duals
from router.core.fleet import Fleet, Member
from router.core.spending.spending import Spending
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.domain.decision import Candidate, Exclusion
from router.domain.request import Capability
from router.domain.view import DeploymentView
from router.routing.fallback import earliest
from router.routing.filters import Filter, bar, within_budget
from router.routing.need import Need
from router.routing.profile import Profile

_SCOPES = 1024

Scope = tuple[tuple[Member, ...], tuple[Exclusion, ...]]
Weighed = tuple[list[DeploymentView], list[Candidate], list[Exclusion]]


class Weigher:
    """Filters and scores the members of a fleet."""

    def __init__(self, fleet: Fleet, profile: Profile, duals: Duals, viewer: Viewer, spending: Spending) -> None:
        self._fleet, self._profile, self._duals, self._viewer = fleet, profile, duals, viewer
        self._spending = spending
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
        )

    def weigh(self, ticket: Ticket, need: Need, *, observe: bool) -> Weighed:
        """What every deployment is worth to the request, or why it cannot serve. `observe`: the request counts as one
        that presses on their capacity."""
        profile, now = self._profile, need.now
        filters = profile.filters if need.purse is None else (within_budget, *profile.filters)
        members, barred = self.scope(ticket)
        views: list[DeploymentView] = []
        candidates: list[Candidate] = []
        excluded = list(barred)
        for member in members:
            view = self._viewer.view(member, ticket, now=now)
            why = _excluded(view, need, filters)
            if why is None:
                views.append(view)
                candidates.append(profile.scorer(view, need))
            else:
                excluded.append(why)
            if observe and (why is None or why.code == "at_limit"):
                member.price.observe(view.pressure if _is_used(view) else 0.0)
        if need.tried and ticket.request_class.fallback:
            kept, later = earliest(ticket.request_class.fallback, views)
            return [views[i] for i in kept], [candidates[i] for i in kept], excluded + later
        return views, candidates, excluded

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


def _is_used(view: DeploymentView) -> bool:
    """Whether anything is in flight there: what is idle is not scarce, however slow it is."""
    return view.load.sequences > 0 or view.load.waiting_sequences > 0
