"""A deployment that was slow for a while is used again afterwards, whatever its class promises."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bench.fleets import SMALL_LARGE
from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import FloorUnderOverload, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload
from tests.regressions.house import House, speaking, virtually

_FLEET = f"""{SMALL_LARGE}events:
  - {{at_s: 30, until_s: 60, deployment: large, slowdown: 3.0}}
"""
_PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))


class Halves:
    """The small model is thought adequate for .85 of one half of the prompts and .3 of the other."""

    def estimate(self, request: Request) -> Scored:
        p = 0.3 if int(request.id) % 2 else 0.85
        return Scored(1 - p, "chat", {}, {Tier.SMALL: p, Tier.LARGE: 0.98})


@pytest.mark.parametrize("floor", [*FloorUnderOverload, None])
@pytest.mark.parametrize("exploration_ratio", [0.0, 0.02])
def test_a_deployment_that_was_three_times_slower_is_used_again(
    floor: FloorUnderOverload | None, exploration_ratio: float
) -> None:
    """From 30 s to 60 s traffic leaves it; from 80 s on it has its old share, with a floor that sheds, one that gives,
    or none, and whether or not the class explores."""
    rng, now, rows = Random(3), 0.0, []
    while now < 120.0:
        rows.append(Arrival(now, rng.randint(200, 1500), rng.randint(50, 250)))
        now += rng.expovariate(6.0)
    promised = None if floor is None else QualityFloor(0.9, under_overload=floor)
    request_class = RequestClass("all", objectives=_PROMISE, floor=promised, exploration_ratio=exploration_ratio)
    fleet = read_fleet(_FLEET)
    policy = Policy("test", (request_class,), deployments(fleet), usd_per_useful=1.0)

    async def scene() -> World:
        world = World(Setting(Workload(tuple(rows)), fleet, policy, Halves()), None, None)
        await world.run()
        return world

    world = run_virtual(scene())

    def share(start: float, end: float) -> float:
        asked = Counter(s.deployment for s in world.served if start <= rows[int(s.request_id)].at_s < end)
        return asked["large"] / asked.total()

    before = share(10.0, 30.0)
    assert before > 0.6
    assert share(35.0, 60.0) < 0.5 * before
    assert share(80.0, 120.0) > 0.85 * before


@pytest.mark.parametrize("floor", [QualityFloor(0.9, under_overload=FloorUnderOverload.DEGRADE), None])
def test_a_deployment_whose_first_tokens_were_late_is_used_again(floor: QualityFloor | None) -> None:
    """Three seconds to the first token for half a minute: within a minute after it has most of its old share."""

    async def scene() -> None:
        house = House(RequestClass("ui", objectives=_PROMISE, floor=floor))
        well = {
            "small": speaking("s", first_s=0.03, tokens=20),
            "large": speaking("l", first_s=0.05, tokens=20, gap_s=0.029),
        }
        house.backend.scripts = dict(well)
        before = (await house.traffic(10.0, 10.0, request_class="ui"))["large"]
        assert before > 80
        house.backend.scripts["large"] = speaking("l", first_s=3.0, tokens=20, gap_s=0.029)
        during = await house.traffic(30.0, 10.0, request_class="ui")
        assert during["large"] < 150
        house.backend.scripts = dict(well)
        await house.traffic(50.0, 10.0, request_class="ui")
        after = (await house.traffic(10.0, 10.0, request_class="ui"))["large"]
        assert after > 80

    virtually(scene)
