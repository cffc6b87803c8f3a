"""The prices in force: what the promises of all are worth to the decision at hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from router.core.fleet import Member
from router.core.floor import book
from router.core.queueing.tenants import Shares
from router.core.spending.paces import Paces
from router.core.ticket import Ticket
from router.domain.decision import Exclusion
from router.domain.deployment import Mode
from router.domain.events import Event, PriceUpdate
from router.domain.slo import FloorUnderOverload, Goal, RequestClass
from router.domain.view import DeploymentView
from router.policy.policy import Policy
from router.routing.filters import serves
from router.slo.floor import FloorPrice
from router.stats.ewma import Ewma

_COST, _DEGRADE = Goal.COST, FloorUnderOverload.DEGRADE
_WORTH_TELLING = 0.25
_COST_HALF_LIFE_S = 300.0
_SCARCE = 0.25
"""Capacity price, in useful answers per typical request, from which on a floor that may give has given way."""


class Duals:
    """Floor prices by class, the dollar price, and which capacity prices were last told."""

    def __init__(self, policy: Policy) -> None:
        self.floors: dict[str, FloorPrice] = {}
        self.paces = Paces()
        self.shares = Shares()
        self._watch = book.Watch()
        self._dearest: dict[str, Ewma] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._scarcity: dict[str, float] = {}
        """By class, the highest capacity price among the deployments that may serve it."""
        self.adopt(policy, [(c.name, c) for c in policy.classes])

    def adopt(self, policy: Policy, classes: Sequence[tuple[str, RequestClass]]) -> None:
        """Take a policy's bounds, and the floors of all classes that decisions are made under, by name or by name and
        side. What stays keeps its price; each side of a rollout has its own, and keeps no other's floor."""
        self._usd_per_useful = policy.usd_per_useful
        self.shares.weights = policy.tenants
        self._models: dict[str, str] = {d.name: d.model for d in policy.deployments}
        self.paces.adopt(classes, policy.deployments)
        self._classes = tuple(c for _, c in classes if c.floor is not None)
        self._floor_of: dict[int, FloorPrice] = {}
        floors: dict[str, FloorPrice] = {}
        for key, request_class in classes:
            if request_class.floor is None:
                continue
            fresh = FloorPrice(request_class.floor, name=key, high=policy.bounds.floor_price_max)
            if key in self.floors:
                fresh.go_on_from(self.floors[key])
            elif request_class.name in self.floors:
                fresh.value = min(self.floors[request_class.name].in_force, fresh.high)
            if request_class.mode is Mode.ADVISE:
                fresh.advise()
            floors[key] = self._floor_of[id(request_class)] = fresh
        self.floors = floors
        kept = {c.name for c in policy.classes} | {d.name for d in policy.deployments}
        self._dearest = {n: e for n, e in self._dearest.items() if n in kept}
        self._told = {k: p for k, p in self._told.items() if k[1] in kept}

    def floor(self, request_class: RequestClass) -> float:
        """Price of a unit of adequacy above the floor. Where the floor may give, it gives as capacity runs short."""
        price = self._price_of(request_class)
        if price is None:
            return 0.0
        if price.under_overload is _DEGRADE:
            return price.in_force * max(1.0 - self._scarcity.get(request_class.name, 0.0) / _SCARCE, 0.0)
        return price.with_refusal

    def _gives_way(self, floor: FloorPrice, request_class: RequestClass) -> bool:
        """Whether the floor is one that may give, and does: what is served meanwhile is not made up for later, or a
        burst would leave a price behind that fills the large model before the next one."""
        scarcity = self._scarcity.get(request_class.name, 0.0)
        return floor.under_overload is FloorUnderOverload.DEGRADE and scarcity > 0.0

    def _price_of(self, request_class: RequestClass) -> FloorPrice | None:
        """The floor price of a class as it is now; by name for a request that began under an older policy."""
        found = self._floor_of.get(id(request_class))
        return self.floors.get(request_class.name) if found is None else found

    def usd(self, request_class: RequestClass) -> float:
        """Useful answers a dollar buys; where least cost is the goal, the dearest candidate's call costs one. A dollar
        buys more where the mean budget of the class asks for it."""
        price = self._goal_usd(request_class)
        if request_class.budget.mean_usd_per_request is None:
            return price
        return max(price, self.paces.price(request_class))

    def _goal_usd(self, request_class: RequestClass) -> float:
        if request_class.goal is _COST:
            dearest = self._dearest.get(request_class.name)
            if dearest is not None and dearest.mean > 0.0:
                return 1.0 / dearest.mean
        return 1.0 / self._usd_per_useful

    def on_decided(
        self,
        ticket: Ticket,
        chosen: DeploymentView,
        views: Sequence[DeploymentView],
        excluded: Sequence[Exclusion] = (),
        *,
        now: float,
    ) -> None:
        """A request is going to be served by `chosen` out of `views`. No floor counts what a sender forced."""
        request_class = ticket.request_class
        self.shares.on_asked(ticket.request.tenant, chosen.work_s, refused=False)
        if ticket.pace is not None:
            ticket.pace.on_decided(chosen.cost_usd)
        floor = self._price_of(request_class)
        counts = floor is not None and ticket.forced is None and ticket.floor_counted is None
        if floor is not None and counts and not self._gives_way(floor, request_class):
            full = [self._models.get(e.deployment, "") for e in excluded if e.code == "at_limit"]
            book.on_decided(floor, ticket, chosen, views, [m for m in full if m in ticket.qualities])
        if request_class.goal is _COST:
            dearest = max(view.cost_usd for view in views)
            if request_class.name not in self._dearest:
                self._dearest[request_class.name] = Ewma(_COST_HALF_LIFE_S, mean=dearest)
            self._dearest[request_class.name].update(dearest, now=now)

    def on_refused(self, ticket: Ticket, views: Sequence[DeploymentView]) -> None:
        """No deployment is worth it to a request that may be shed."""
        self.shares.on_asked(ticket.request.tenant, min(view.work_s for view in views), refused=True)

    def on_ended(self, ticket: Ticket, model: str | None) -> tuple[str, float] | None:
        """A request has been answered by this model, or not at all: set right what was counted. Gives the floor that
        counts it, and as what."""
        if ticket.pace is not None:
            ticket.pace.on_ended(ticket.cost_usd)
        floor = self._price_of(ticket.request_class)
        counted = None if floor is None else book.on_ended(floor, ticket, model)
        return None if floor is None or counted is None else (floor.name, counted)

    def on_verdict(self, name: str, model: str, counted: float, adequate: float) -> None:
        """An answer of a model that this floor counted turned out `adequate` (0..1)."""
        floor = self.floors.get(name)
        if floor is not None:
            floor.on_verdict(model, counted, adequate)

    def tick(self, members: Collection[Member], *, now: float) -> list[Event]:
        """Integrate the capacity prices; says so where one moved."""
        events = [event for member in members for event in self._tick(member, now)]
        events += self.paces.tick(now=now)
        events += self._watch.tick(self.floors)
        events += self.shares.tick(now=now)
        reasons = ("less is served well than was promised", "more is served well than was promised")
        for name, floor in self.floors.items():
            if "/" not in name:
                events += self._moved("floor", name, floor.tuned, reasons, advised=floor.static is not None)
        self._scarcity = {
            c.name: max((m.price.in_force for m in members if serves(c, m.deployment)), default=0.0)
            for c in self._classes
        }
        return events

    def _tick(self, member: Member, now: float) -> list[Event]:
        member.price.tick(now=now, caution=self.shares.caution)
        reasons = ("predictions press on the objectives", "there is room")
        price = member.price
        return self._moved("capacity", member.deployment.name, price.integral, reasons, advised=price.is_advice)

    def _moved(self, kind: str, subject: str, price: float, reasons: tuple[str, str], *, advised: bool) -> list[Event]:
        told = self._told.get((kind, subject), 0.0)
        if abs(price - told) <= max(_WORTH_TELLING, _WORTH_TELLING * told):
            return []
        self._told[(kind, subject)] = price
        return [PriceUpdate(kind, subject, told, price, reasons[0] if price > told else reasons[1], advised)]
