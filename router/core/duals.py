"""The prices in force: what the promises of all are worth to the decision at hand."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from router.core.fleet import Member
from router.core.ticket import Ticket
from router.domain.events import Event, PriceUpdate
from router.domain.slo import FloorUnderOverload, Goal, RequestClass
from router.domain.view import DeploymentView
from router.policy.policy import Policy
from router.routing.filters import serves
from router.slo.pacing import FloorPrice
from router.stats.ewma import Ewma

_WORTH_TELLING = 0.25
_COST_HALF_LIFE_S = 300.0
_SCARCE = 0.25
"""Capacity price, in useful answers per typical request, from which on a floor that may give has given way."""


class Duals:
    """Floor prices by class, the dollar price, and which capacity prices were last told."""

    def __init__(self, policy: Policy) -> None:
        self.floors: dict[str, FloorPrice] = {}
        self._dearest: dict[str, Ewma] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._scarcity: dict[str, float] = {}
        """By class, the highest capacity price among the deployments that may serve it."""
        self.adopt(policy, [(c.name, c) for c in policy.classes])

    def adopt(self, policy: Policy, classes: Sequence[tuple[str, RequestClass]]) -> None:
        """Take a policy's bounds, and the floors of all classes that decisions are made under, by name or by name and
        side. What stays keeps its price; each side of a rollout has its own, and keeps no other's floor."""
        self._usd_per_useful = policy.usd_per_useful
        self._classes = tuple(c for _, c in classes if c.floor is not None)
        self._floor_of: dict[int, FloorPrice] = {}
        floors: dict[str, FloorPrice] = {}
        for key, request_class in classes:
            if request_class.floor is None:
                continue
            fresh = FloorPrice(request_class.floor, high=policy.bounds.floor_price_max)
            old = self.floors.get(key) or self.floors.get(request_class.name)
            if old is not None:
                fresh.value = min(old.value, fresh.high)
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
        if price.under_overload is FloorUnderOverload.DEGRADE:
            return price.value * max(1.0 - self._scarcity.get(request_class.name, 0.0) / _SCARCE, 0.0)
        return price.value

    def _price_of(self, request_class: RequestClass) -> FloorPrice | None:
        """The floor price of a class as it is now; by name for a request that began under an older policy."""
        found = self._floor_of.get(id(request_class))
        return self.floors.get(request_class.name) if found is None else found

    def usd(self, request_class: RequestClass) -> float:
        """Useful answers a dollar buys; where least cost is the goal, the dearest candidate's call costs one."""
        if request_class.goal is Goal.COST:
            dearest = self._dearest.get(request_class.name)
            if dearest is not None and dearest.mean > 0.0:
                return 1.0 / dearest.mean
        return 1.0 / self._usd_per_useful

    def on_decided(
        self, ticket: Ticket, chosen: DeploymentView, views: Sequence[DeploymentView], *, now: float
    ) -> None:
        """A request is going to be served by `chosen` out of `views`. What a sender forced does not count."""
        request_class = ticket.request_class
        floor = self._price_of(request_class)
        if floor is not None and ticket.forced is None and ticket.floor_counted is None:
            best = max(view.p_adequate for view in views)
            ticket.floor_counted = chosen.p_adequate if floor.on_served(chosen.p_adequate, best) else None
        if request_class.goal is Goal.COST:
            dearest = max(view.cost_usd for view in views)
            if request_class.name not in self._dearest:
                self._dearest[request_class.name] = Ewma(_COST_HALF_LIFE_S, mean=dearest)
            self._dearest[request_class.name].update(dearest, now=now)

    def on_ended(self, ticket: Ticket, p_adequate: float | None) -> None:
        """A request has been served as well as `p_adequate`, or not at all: set right what was counted."""
        floor, counted = self._price_of(ticket.request_class), ticket.floor_counted
        if floor is not None and counted is not None and p_adequate != counted:
            floor.on_changed(counted, p_adequate)

    def tick(self, members: Collection[Member], *, now: float) -> list[Event]:
        """Integrate the capacity prices; says so where one moved."""
        events = [event for member in members for event in self._tick(member, now)]
        reasons = ("less is served well than was promised", "more is served well than was promised")
        events += [e for n, f in self.floors.items() if "/" not in n for e in self._moved("floor", n, f.value, reasons)]
        self._scarcity = {
            c.name: max((m.price.integral for m in members if serves(c, m.deployment)), default=0.0)
            for c in self._classes
        }
        return events

    def _tick(self, member: Member, now: float) -> list[Event]:
        member.price.tick(now=now)
        reasons = ("predictions press on the objectives", "there is room")
        return self._moved("capacity", member.deployment.name, member.price.integral, reasons)

    def _moved(self, kind: str, subject: str, price: float, reasons: tuple[str, str]) -> list[Event]:
        told = self._told.get((kind, subject), 0.0)
        if abs(price - told) <= _WORTH_TELLING:
            return []
        self._told[(kind, subject)] = price
        return [PriceUpdate(kind, subject, told, price, reasons[0] if price > told else reasons[1])]
