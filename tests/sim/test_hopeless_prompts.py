"""What could be in time nowhere says nothing of the load: the loop closed, on the virtual clock."""

from __future__ import annotations

from random import Random

from bench.fleets import SMALL_LARGE
from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
SHORT, LONG = 1_000, 20_000


class Half:
    """The small model's answers are adequate every other time, and nobody can tell which."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.5, Tier.LARGE: 1.0})


def test_prompts_that_are_too_long_for_a_server_do_not_make_it_dear() -> None:
    """Three quarters of the prompts take the large model 1,300 ms by themselves, where 500 are promised. It is nearly
    idle, and serves the others: half of them went to the small model when those it cannot help made it dear."""
    rng, now, rows = Random(1), 0.0, []
    while now < 200.0:
        rows.append(Arrival(now, LONG if rng.random() < 0.75 else SHORT, rng.randint(50, 250)))
        now += rng.expovariate(4.0)
    spec = read_fleet(SMALL_LARGE, "fleet.yaml")
    policy = Policy("p", (RequestClass("all", objectives=PROMISE, sheddable=True),), deployments(spec))

    async def scene() -> World:
        world = World(Setting(Workload(tuple(rows)), spec, policy, Half()), None, None)
        await world.run()
        return world

    served = {one.request_id: one.deployment for one in run_virtual(scene()).served}
    short = [served[request_id] for request_id in served if rows[int(request_id)].input_tokens == SHORT]
    assert short.count("large") > 0.9 * len(short)
