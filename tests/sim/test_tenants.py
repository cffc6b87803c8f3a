"""One tenant floods, some are refused, classes compete: who is served, in the daemon's dispatcher in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from msgspec.structs import replace

from bench.fleets import SMALL_LARGE
from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.errors import Rejected
from router.domain.request import Request
from router.domain.slo import (
    FloorUnderOverload,
    Indicator,
    Objective,
    Objectives,
    QualityFloor,
    RequestClass,
)
from router.policy.policy import Policy
from router.runtime.queue import Waiter
from router.sim.clock import run_virtual
from router.sim.report import Served
from router.sim.run import Setting, World, play
from router.sim.workload import Arrival, Workload

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))


class Calibrated:
    """P(small adequate) is what the workload drew the truth with."""

    def __init__(self, p_small: list[float]) -> None:
        self._p_small = p_small

    def estimate(self, request: Request) -> Scored:
        p = self._p_small[int(request.id)]
        return Scored(1 - p, "chat", {SMALL: p, LARGE: 1.0}, {Tier.SMALL: p, Tier.LARGE: 1.0})


def arrivals(per_s: float, seconds: float, *, tenant: str = "", name: str = "all", start: float = 0.0) -> list[Arrival]:
    """Poisson; the small model is adequate for six of ten, and is known to be likelier so for some."""
    rng, now, rows = Random(f"{tenant}/{name}/{start}"), start, []
    while now < seconds:
        p_small = rng.betavariate(1.5, 1.0)
        rows.append(
            Arrival(
                now,
                rng.randint(200, 2000),
                rng.randint(50, 250),
                request_class=name,
                tenant=tenant or None,
                quality={SMALL: 1.0 if rng.random() < p_small else 0.0, LARGE: 1.0},
                estimate={SMALL: p_small},
            )
        )
        now += rng.expovariate(per_s)
    return rows


def setting(rows: Iterable[Arrival], *classes: RequestClass, at_once: int | None = None, **policy: object) -> Setting:
    """`at_once`: most calls in flight on each deployment, so that who waits does so in the router."""
    workload = Workload(tuple(sorted(rows, key=lambda row: row.at_s)))
    fleet = read_fleet(SMALL_LARGE)
    listed = tuple(replace(d, max_in_flight=at_once) for d in deployments(fleet))
    made = Policy("test", classes, listed, usd_per_useful=1.0, **policy)  # type: ignore[arg-type]
    return Setting(workload, fleet, made, Calibrated([row.estimate[SMALL] for row in workload.arrivals]))


def slo_met(what: Setting, served: Iterable[Served]) -> dict[str, float]:
    """By tenant, share of what it offered."""
    met: Counter[str] = Counter()
    offered: Counter[str] = Counter()
    for one in served:
        tenant = what.workload.arrivals[int(one.request_id)].tenant or ""
        offered[tenant] += 1
        met[tenant] += one.slo_met
    return {tenant: met[tenant] / offered[tenant] for tenant in offered}


@pytest.mark.parametrize("under_overload", FloorUnderOverload)
def test_a_flood_does_not_cost_another_tenant_its_promise(under_overload: FloorUnderOverload) -> None:
    """Where servers queue inside and the router can only refuse: a tenant sends five times as much, and another keeps
    its share in SLO within two points."""
    floor = QualityFloor(0.9, under_overload=under_overload)
    chat = RequestClass("all", objectives=PROMISE, floor=floor, sheddable=True)
    usual = [*arrivals(3.0, 160.0, tenant="b"), *arrivals(3.0, 160.0, tenant="a")]
    alone, flood = setting(usual, chat), setting([*usual, *arrivals(12.0, 160.0, tenant="a", start=30.0)], chat)
    before, after = (slo_met(what, play(what).served) for what in (alone, flood))
    assert after["b"] >= before["b"] - 0.02
    assert after["a"] < after["b"]


def test_a_flood_in_the_routers_queue_delays_nobody_else() -> None:
    """Where limits are reached and nothing may be shed: the flood waits, the other tenant keeps its share in SLO within
    two points."""
    promise = Objectives(ttft=Objective(Indicator.TTFT, 3.0))
    patient = RequestClass("all", objectives=promise)
    quiet = arrivals(2.0, 120.0, tenant="b")
    alone = setting([*quiet, *arrivals(2.0, 120.0, tenant="a")], patient, at_once=12)
    flood = setting([*quiet, *arrivals(10.0, 120.0, tenant="a")], patient, at_once=12)
    before, after = (slo_met(what, play(what).served) for what in (alone, flood))
    assert after["b"] >= before["b"] - 0.02
    assert after["a"] < 0.7


def test_weights_hold_in_the_queue() -> None:
    """Two tenants flood alike; the one of three times the weight is served three times as much while both wait."""
    promise = Objectives(ttft=Objective(Indicator.TTFT, 2.0))
    spare = RequestClass("all", objectives=promise, sheddable=True)
    rows = [*arrivals(10.0, 90.0, tenant="gold"), *arrivals(10.0, 90.0, tenant="plain")]
    what = setting(rows, spare, at_once=6, tenants={"gold": 3.0})
    done = Counter(
        what.workload.arrivals[int(s.request_id)].tenant for s in play(what).served if s.ended == "completed"
    )
    assert done["gold"] / done["plain"] == pytest.approx(3.0, rel=0.25)


def test_of_those_refused_as_too_late_few_would_have_been_in_time() -> None:
    """One in five of those that admission would refuse is let in behind the others to see: at most one in twenty could
    have been in time besides those before it."""
    promise = Objectives(ttft=Objective(Indicator.TTFT, 2.0))
    what = setting(arrivals(12.0, 150.0), RequestClass("all", objectives=promise, sheddable=True), at_once=8)
    rng, let_in, refused = Random(3), set[str](), list[Rejected]()

    async def scene() -> World:
        world = World(what, None, None)
        queue = world.dispatcher.queue
        foresee = queue._foresee

        def audited(waiter: Waiter, latest: float, now: float) -> None:
            try:
                foresee(waiter, latest, now)
            except Rejected as error:
                if rng.random() < 0.8:
                    refused.append(error)
                    raise
                waiter.priority = -1
                let_in.add(waiter.ticket.request.id)

        queue._foresee = audited  # type: ignore[method-assign]
        await world.run()
        return world

    world = run_virtual(scene())
    assert len(let_in) > 30
    assert {error.code for error in refused} == {"slo_unreachable"}
    assert all(error.retry_after_s is not None and 0.0 < error.retry_after_s <= 60.0 for error in refused)
    assert sum(s.slo_met for s in world.served if s.request_id in let_in) <= 0.05 * len(let_in)


def test_refusing_at_once_costs_nothing_that_is_in_time() -> None:
    """As many are in time as where everybody waits until it is plainly too late."""
    promise = Objectives(ttft=Objective(Indicator.TTFT, 2.0))
    what = setting(arrivals(12.0, 150.0), RequestClass("all", objectives=promise, sheddable=True), at_once=8)

    async def scene(*, ahead: bool) -> World:
        world = World(what, None, None)
        if not ahead:
            world.dispatcher.queue._foresee = lambda waiter, latest, now: None  # type: ignore[method-assign]
        await world.run()
        return world

    met = {ahead: sum(s.slo_met for s in run_virtual(scene(ahead=ahead)).served) for ahead in (True, False)}
    assert met[True] >= 0.98 * met[False]


def test_under_overload_one_class_keeps_its_floor_and_the_other_gives() -> None:
    """Two classes on one fleet at three times what it can do well: where the floor holds it is kept by refusing, where
    it may give more is answered."""
    holds = RequestClass("holds", objectives=PROMISE, floor=QualityFloor(0.9), sheddable=True)
    gives = RequestClass(
        "gives",
        objectives=PROMISE,
        floor=QualityFloor(0.9, under_overload=FloorUnderOverload.DEGRADE),
        sheddable=True,
    )
    rows = [*arrivals(13.0, 120.0, name="holds"), *arrivals(13.0, 120.0, name="gives")]
    by_class = play(setting(rows, holds, gives)).report["by_class"]
    assert isinstance(by_class, dict)
    assert by_class["holds"]["adequate_of_served"] >= 0.885
    assert by_class["gives"]["adequate_of_served"] < by_class["holds"]["adequate_of_served"]
    assert by_class["gives"]["shed"] < by_class["holds"]["shed"]


def test_priority_is_strict_and_what_is_left_goes_to_the_others() -> None:
    """A low class waits while a high one does, is served as soon as there is room, and ends no later than it may."""
    patience = Objectives(ttft=Objective(Indicator.TTFT, 60.0))
    high, low = RequestClass("high", objectives=patience, priority=5), RequestClass("low", objectives=patience)
    rows = [*arrivals(6.0, 60.0, name="high"), *arrivals(6.0, 60.0, name="low")]
    what = setting(rows, high, low, at_once=10)
    served = play(what).served
    waited = {name: sorted(s.ttft_s or 0.0 for s in served if s.request_class == name) for name in ("high", "low")}
    done = Counter(s.request_class for s in served if s.ended == "completed")
    assert done["high"] == sum(row.request_class == "high" for row in rows)
    assert done["low"] > 0.5 * sum(row.request_class == "low" for row in rows)
    middle = {name: values[len(values) // 2] for name, values in waited.items()}
    assert middle["high"] < 0.5
    assert middle["low"] > 2.0
