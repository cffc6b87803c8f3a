"""The loop closes: what is measured changes the next decision. On the virtual clock, in the daemon's dispatcher."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from bench.fleets import SMALL_LARGE
from router.backends.simulated import SimulatedBackend
from router.backends.simulated_fleet import FleetSpec, deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Goal, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.routing.profile import baseline
from router.sim import baselines
from router.sim.clock import run_virtual
from router.sim.run import Setting, World, simulate
from router.sim.workload import Arrival, Workload

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"
PROMISE = Objectives(
    ttft=Objective(Indicator.TTFT, 0.5),
    tpot=Objective(Indicator.TPOT, 0.05),
)


class TwoKinds:
    """Half of the prompts are hard: the small model is thought adequate for 85 % of the easy ones, 30 % of the hard."""

    def estimate(self, request: Request) -> Scored:
        hard = int(request.id) % 2 == 1
        p = 0.3 if hard else 0.85
        return Scored(1 - p, "hard" if hard else "easy", {SMALL: p, LARGE: 0.98}, {Tier.SMALL: p, Tier.LARGE: 0.98})


def workload(seconds: float, per_s: float, *, small_fails_at: str = "", seed: int = 1) -> Workload:
    """Poisson arrivals; the small model is adequate for easy prompts unless it fails at them, never for hard ones."""
    rng, now, rows = Random(seed), 0.0, []
    while now < seconds:
        kind = "hard" if len(rows) % 2 else "easy"
        good = 0.0 if kind == small_fails_at or kind == "hard" else 1.0
        rows.append(Arrival(now, rng.randint(200, 1500), rng.randint(50, 250), quality={SMALL: good, LARGE: 1.0}))
        now += rng.expovariate(per_s)
    return Workload(tuple(rows))


def setting(arrivals: Workload, *, events: str = "", goal: Goal = Goal.USEFUL, feedback: float = 0.0) -> Setting:
    fleet = read_fleet(SMALL_LARGE + events)
    request_class = RequestClass("all", objectives=PROMISE, floor=QualityFloor(0.9), goal=goal)
    policy = Policy("test", (request_class,), deployments(fleet), usd_per_useful=1.0)
    return Setting(arrivals, fleet, policy, TwoKinds(), feedback_ratio=feedback)


def run(what: Setting) -> World:
    async def scene() -> World:
        world = World(what, None, None)
        await world.run()
        return world

    return run_virtual(scene())


def share_to_large(world: World, what: Setting, start: float, end: float) -> float:
    rows = what.workload.arrivals
    picked = Counter(s.deployment for s in world.served if start <= rows[int(s.request_id)].at_s < end)
    return picked["large"] / max(picked.total(), 1)


def test_a_slowdown_moves_traffic_away_within_seconds_and_it_comes_back() -> None:
    """Three times slower from 60 s to 120 s: within 5 s most traffic has left the large model, within 15 s of the
    recovery it is back near its old share."""
    events = "events:\n  - {at_s: 60, until_s: 120, deployment: large, slowdown: 3.0}\n"
    what = setting(workload(180.0, 6.0), events=events)
    world = run(what)
    before = share_to_large(world, what, 20.0, 60.0)
    during = share_to_large(world, what, 65.0, 120.0)
    after = share_to_large(world, what, 135.0, 180.0)
    assert before > 0.6
    assert during < 0.5 * before
    assert after > 0.85 * before


def test_an_outage_is_noticed_and_left_alone() -> None:
    """While the large deployment is down its calls fail over; nearly everything is still answered."""
    events = "events:\n  - {at_s: 30, until_s: 60, deployment: large, down: true}\n"
    what = setting(workload(90.0, 6.0), events=events)
    world = run(what)
    ends = Counter(str(s.ended) for s in world.served)
    assert ends["completed"] >= 0.98 * len(world.served)
    assert share_to_large(world, what, 35.0, 60.0) < 0.02
    assert share_to_large(world, what, 70.0, 90.0) > 0.5


def test_feedback_that_the_small_model_fails_a_kind_moves_that_kind_to_large() -> None:
    """At least cost easy prompts go to the small model; when feedback says it fails them, they move."""
    arrivals = workload(120.0, 4.0, small_fails_at="easy")
    told, untold = setting(arrivals, goal=Goal.COST, feedback=0.5), setting(arrivals, goal=Goal.COST)

    def easy_to_large(what: Setting) -> float:
        late = [s for s in run(what).served if int(s.request_id) % 2 == 0 and int(s.request_id) > 240]
        return sum(s.deployment == "large" for s in late) / len(late)

    assert easy_to_large(untold) < 0.3
    assert easy_to_large(told) > 0.8


def test_the_quality_floor_is_met_at_least_cost() -> None:
    """With calibrated estimates the share adequate settles at the floor, not far above it."""
    rng = Random(5)
    rows, now = [], 0.0
    for _ in range(1500):
        p = rng.random()
        good = 1.0 if rng.random() < p else 0.0
        rows.append(Arrival(now, 300, 80, quality={SMALL: good, LARGE: 1.0}, estimate={SMALL: p, LARGE: 1.0}))
        now += rng.expovariate(5.0)
    arrivals = Workload(tuple(rows))
    from router.sim.recorded import RecordedEstimator

    base = setting(arrivals, goal=Goal.COST)
    what = Setting(arrivals, base.fleet, base.policy, RecordedEstimator(arrivals, TwoKinds()))
    overall = simulate(what)["overall"]
    assert isinstance(overall, dict)
    assert 0.88 <= overall["adequate_of_served"] <= 0.94
    large = simulate(what, lambda o: baseline(baselines.make("always-large", what, o)))["overall"]
    assert isinstance(large, dict)
    assert overall["cost_usd"] < 0.8 * large["cost_usd"]


@pytest.mark.parametrize("name", baselines.NAMES)
def test_every_baseline_answers_through_the_same_dispatcher(name: str) -> None:
    """Each baseline is a picker in the daemon's dispatcher, and accounts for everything that was offered."""
    what = setting(workload(20.0, 5.0))
    found = simulate(what, lambda oracle: baseline(baselines.make(name, what, oracle)))["overall"]
    assert isinstance(found, dict)
    assert found["offered"] == len(what.workload.arrivals)
    assert found["completed"] + found["shed"] + found["expired"] + found["failed"] == found["offered"]


def test_static_threshold_is_the_least_that_reaches_the_floor() -> None:
    """Worked by hand: of ten requests, those at .6 and above may go small before the mean falls under .90."""
    estimates = [(p / 10, 1.0) for p in range(10)]
    assert baselines.static_threshold(estimates) == pytest.approx(0.6)
    assert baselines.static_threshold([(0.1, 0.5)]) == float("inf")


def test_simulator_and_daemon_enter_the_same_dispatcher() -> None:
    """There is one dispatcher, one queue and one batcher; the simulator's world and the daemon's house both use it."""
    import router.sim.run as simulated
    import router.wiring as wired
    from router.runtime.batcher import Batcher
    from router.runtime.call import Caller
    from router.runtime.dispatcher import Dispatcher
    from router.runtime.queue import Queue

    assert simulated.Dispatcher is wired.Dispatcher is Dispatcher

    async def scene() -> None:
        fleet: FleetSpec = read_fleet(SMALL_LARGE)
        world = World(setting(workload(1.0, 1.0)), None, None)
        assert type(world.dispatcher) is Dispatcher
        assert type(world.dispatcher.queue) is Queue
        assert type(world.dispatcher._caller) is Caller
        assert Caller._batcher.__annotations__["return"] == Batcher.__name__
        await SimulatedBackend(fleet, world._truth, origin_s=0.0).close()
        await asyncio.sleep(0)

    run_virtual(scene())


def test_batches_are_formed_by_the_router() -> None:
    """A batch endpoint that could never keep up one by one keeps its objective in batches."""
    fleet = read_fleet(
        """
deployments:
  - {name: scorer, model: scorer, tier: small, kind: batch, batch_ms: {base: 30, per_item: 2}, max_items: 128}
"""
    )
    rng, now, rows = Random(2), 0.0, []
    while now < 20.0:
        rows.append(Arrival(now, 100, 1))
        now += rng.expovariate(150.0)
    promise = Objectives(e2e=Objective(Indicator.E2E, 0.25))
    request_class = RequestClass("all", objectives=promise, sheddable=True)
    policy = Policy("batch", (request_class,), deployments(fleet))
    found = simulate(Setting(Workload(tuple(rows)), fleet, policy, TwoKinds()))["overall"]
    assert isinstance(found, dict)
    assert found["slo_met"] > 0.99


_REPORT = """
import json, sys
sys.path.insert(0, {tests!r})
from test_closed_loop import setting, workload, simulate
found = simulate(setting(workload(20.0, 8.0), feedback=0.3))
del found["wall_s"], found["decision_us"]
print(json.dumps(found))
"""


def test_the_same_seed_gives_the_same_report_byte_for_byte() -> None:
    """Whatever PYTHONHASHSEED is."""
    here = Path(__file__).parent
    script = _REPORT.format(tests=str(here))
    reports = set()
    for seed in ("0", "1", "424242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here.parents[1])}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        reports.add(done.stdout)
    assert len(reports) == 1
