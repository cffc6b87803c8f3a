"""A quantised variant of a base that nobody has judged, both in time: does an early bad answer shut it out for good?"""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

BASE, VARIANT = "plain-8b", "plain-8b-awq"
EXPECTED, AS_GOOD, RUINED = 0.92, 0.91, 0.6
REQUESTS = 1000
FLEET = read_fleet("""
deployments:
  - {name: plain, model: plain-8b, tier: small, price_usd_per_mtok: {input: 0.4, output: 0.4},
     step_ms: {base: 7, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - {name: variant, model: plain-8b-awq, tier: small, price_usd_per_mtok: {input: 0.2, output: 0.2},
     step_ms: {base: 4, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
""")


class Told:
    """What is expected of both, whatever is asked."""

    def estimate(self, request: Request) -> Scored:
        models = {BASE: EXPECTED, VARIANT: EXPECTED}
        return Scored(0.1, "chat", models, {Tier.SMALL: EXPECTED, Tier.LARGE: EXPECTED})


def play(seed: int, quality: float) -> list[str]:
    """Which deployment served each request."""
    rng, now, rows = Random(seed), 0.0, []
    for _ in range(REQUESTS):
        truth = {BASE: float(rng.random() < EXPECTED), VARIANT: float(rng.random() < quality)}
        rows.append(Arrival(now, rng.randint(100, 300), rng.randint(10, 30), quality=truth))
        now += rng.expovariate(5.0)
    promise = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
    terms = RequestClass("all", objectives=promise, floor=QualityFloor(0.8), exploration_ratio=0.05)
    plain, variant = deployments(FLEET)
    policy = Policy(
        "untold", (terms,), (plain, replace(variant, derived_from=BASE, optimizations=("quantization-awq",)))
    )
    setting = Setting(Workload(tuple(rows)), FLEET, policy, Told(), seed=seed, feedback_ratio=0.5)

    async def scene() -> World:
        world = World(setting, None, None)
        await world.run()
        return world

    picks = [""] * REQUESTS
    for served in run_virtual(scene()).served:
        picks[int(served.request_id)] = served.deployment or ""
    return picks


def test_no_good_variant_is_shut_out_for_good() -> None:
    """Over twelve seeds a variant as good as its base is still asked in the second half. Where exploration asks only
    who is surely above the floor, and what is learned of the base later says nothing of its variant, nine of these
    twelve are never asked again."""
    late = [play(seed, AS_GOOD)[REQUESTS // 2 :].count("variant") for seed in range(12)]
    assert min(late) > 0


def test_a_ruined_one_is_gone() -> None:
    """It has little more than what it takes to tell it from a good one, and all but nothing in the second half."""
    for seed in range(4):
        picks = play(seed, RUINED)
        assert picks.count("variant") < 0.05 * REQUESTS
        assert picks[REQUESTS // 2 :].count("variant") < 0.01 * REQUESTS
