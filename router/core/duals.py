"""The prices in force: what the promises of all are worth to the decision at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from router.core.fleet import Member
from router.domain.events import Event, PriceUpdate
from router.domain.slo import FloorUnderOverload, Goal, RequestClass
from router.domain.view import DeploymentView
from router.policy.policy import Policy
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
        self._told: dict[str, float] = {}
        self.scarcity = 0.0
        """The highest capacity price in force."""
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """Take a policy's floors and bounds; a class that stays keeps its price."""
        self._usd_per_useful = policy.usd_per_useful
        floors = {}
        for request_class in policy.classes:
            if request_class.floor is None:
                continue
            fresh = FloorPrice(request_class.floor, high=policy.bounds.floor_price_max)
            old = self.floors.get(request_class.name)
            if old is not None:
                fresh.value, fresh.served, fresh.adequate = (
                    min(old.value, fresh.high),
                    old.served,
                    old.adequate,
                )
            floors[request_class.name] = fresh
        self.floors = floors

    def floor(self, request_class: RequestClass) -> float:
        """Price of a unit of adequacy above the floor. Where the floor may give, it gives as capacity runs short."""
        price = self.floors.get(request_class.name)
        if price is None:
            return 0.0
        if price.under_overload is FloorUnderOverload.DEGRADE:
            return price.value * max(1.0 - self.scarcity / _SCARCE, 0.0)
        return price.value

    def usd(self, request_class: RequestClass) -> float:
        """Useful answers a dollar buys; where least cost is the goal, the dearest candidate's call costs one."""
        if request_class.goal is Goal.COST:
            dearest = self._dearest.get(request_class.name)
            if dearest is not None and dearest.mean > 0.0:
                return 1.0 / dearest.mean
        return 1.0 / self._usd_per_useful

    def on_served(
        self,
        request_class: RequestClass,
        chosen: DeploymentView,
        views: Iterable[DeploymentView],
        *,
        now: float,
    ) -> None:
        """A request is going to be served by `chosen` out of `views`."""
        floor = self.floors.get(request_class.name)
        if floor is not None:
            floor.on_served(chosen.p_adequate)
        if request_class.goal is Goal.COST:
            dearest = max(view.cost_usd for view in views)
            if request_class.name not in self._dearest:
                self._dearest[request_class.name] = Ewma(_COST_HALF_LIFE_S, mean=dearest)
            self._dearest[request_class.name].update(dearest, now=now)

    def tick(self, members: Collection[Member], *, now: float) -> list[Event]:
        """Integrate the capacity prices; says so where one moved."""
        events = [event for member in members for event in self._tick(member, now)]
        self.scarcity = max((member.price.integral for member in members), default=0.0)
        return events

    def _tick(self, member: Member, now: float) -> list[Event]:
        member.price.tick(now=now)
        name, price = member.deployment.name, member.price.integral
        told = self._told.get(name, 0.0)
        if abs(price - told) <= _WORTH_TELLING:
            return []
        self._told[name] = price
        reason = "predictions press on the objectives" if price > told else "there is room"
        return [PriceUpdate("capacity", name, told, price, reason)]
