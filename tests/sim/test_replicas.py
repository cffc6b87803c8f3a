"""Wanted replicas follow the offered work, whatever the fleet that is there makes of it, and never flap."""

from __future__ import annotations

from random import Random
from typing import Any

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.control.capacity import GroupObserved, WantedReplicas
from router.domain.deployment import Tier
from router.domain.events import Event
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

FLEET = """
deployments:
  - name: large
    model: m
    tier: large
    replicas: %d
    price_usd_per_mtok: {input: 0.99, output: 0.99}
    step_ms: {base: 16.4, per_sequence: 0.08, per_context_token: 0.000023, per_prefill_token: 0.065}
"""
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
UP_S, DOWN_S = 120.0, 540.0
"""Settled after a step up, and after one down: five minutes of which are those for which fewer must have done."""


class Sure:
    """Every model is adequate."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.0, "chat", {"m": 1.0}, {Tier.SMALL: 1.0, Tier.LARGE: 1.0})


class Watched(World):
    """Keeps what was told of the group."""

    def __init__(self, setting: Setting) -> None:
        self.told: list[tuple[float, Any]] = []
        super().__init__(setting, None, None)

    def emit(self, event: Event) -> None:
        if isinstance(event, GroupObserved | WantedReplicas):
            self.told.append((self.now(), event))
        super().emit(event)

    def wanted(self, at: float) -> int:
        return [e.wanted for when, e in self.told if type(e) is GroupObserved and when <= at][-1]

    def changes(self, start: float, end: float) -> list[tuple[int, int]]:
        return [(e.old, e.new) for at, e in self.told if type(e) is WantedReplicas and start <= at < end]


def run(phases: tuple[tuple[float, float], ...], *, replicas: int, seed: int = 1) -> Watched:
    rng, now, rows = Random(seed), 0.0, []
    for until, per_s in phases:
        while now < until:
            rows.append(Arrival(now, rng.randint(500, 1500), rng.randint(50, 250), quality={"m": 1.0}))
            now += rng.expovariate(per_s)
    spec = read_fleet(FLEET % replicas)
    policy = Policy("test", (RequestClass("all", objectives=PROMISE, sheddable=True),), deployments(spec))

    async def scene() -> Watched:
        world = Watched(Setting(Workload(tuple(rows)), spec, policy, Sure()))
        await world.run()
        return world

    return run_virtual(scene())


def test_a_step_of_three_up_and_down_settles_once() -> None:
    """Up within two minutes, down within nine, and in between it moves one way only."""
    world = run(((240.0, 5.0), (480.0, 15.0), (1100.0, 5.0)), replicas=1)
    low, high = world.wanted(240.0), world.wanted(480.0)
    assert (low, high) == (1, 3)
    assert world.wanted(240.0 + UP_S) == high
    assert world.wanted(480.0 + DOWN_S) == low
    up, down = world.changes(240.0, 480.0), world.changes(480.0, 1100.0)
    assert all(new > old for old, new in up)
    assert all(new < old for old, new in down)
    assert world.changes(480.0 + DOWN_S, 1100.0) == []


def test_what_is_wanted_does_and_is_asked_for_by_what_is_offered() -> None:
    """One replica that is in time for two of three asks for as many as do; that many serve all, and ask for no more."""
    few = run(((150.0, 11.0),), replicas=1)
    assert sum(s.slo_met for s in few.served) < 0.8 * len(few.served)
    wanted = few.wanted(150.0)
    assert wanted == 2
    enough = run(((150.0, 11.0),), replicas=wanted)
    assert sum(s.slo_met for s in enough.served) > 0.98 * len(enough.served)
    assert enough.wanted(150.0) == wanted
