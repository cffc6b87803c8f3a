"""Two quantised variants of one model, half as dear and faster: by what is told of their answers the good one takes
the traffic and the ruined one loses it. The daemon's controller on the virtual clock."""

from __future__ import annotations

from functools import cache
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Deployment, DeploymentName, StepProfile, Tier
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.aws.variants import varied
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

PLAIN, GOOD, RUINED = "plain-8b", "good-awq", "ruined-awq"
TRUTH = {PLAIN: 0.92, GOOD: 0.91, RUINED: 0.6}
EXPECTED = 0.92
"""Of all three: a variant's estimate is its base's."""
FLOOR = 0.8
KNOWN = 300
"""Answers of the base that were judged before its variants came."""
QUARTER = 400
FLEET = read_fleet("""
deployments:
  - {name: plain, model: plain-8b, tier: small, price_usd_per_mtok: {input: 0.4, output: 0.4},
     step_ms: {base: 7, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - {name: good, model: good-awq, tier: small, price_usd_per_mtok: {input: 0.2, output: 0.2},
     step_ms: {base: 4, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - {name: ruined, model: ruined-awq, tier: small, price_usd_per_mtok: {input: 0.19, output: 0.19},
     step_ms: {base: 4, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
""")


class Told:
    """What is expected of all, whatever is asked."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.1, "chat", dict.fromkeys(TRUTH, EXPECTED), {Tier.SMALL: EXPECTED, Tier.LARGE: EXPECTED})


class Run(Struct):
    """Which deployment served each request, and the share adequate of the last quarter."""

    picks: list[str]
    adequate: float

    def share(self, deployment: str, quarter: int) -> float:
        return self.picks[quarter * QUARTER : (quarter + 1) * QUARTER].count(deployment) / QUARTER


def fleet() -> tuple[Deployment, ...]:
    """As a policy would describe them: the base's step is known, and the variants' start from it."""
    plain, *variants = deployments(FLEET)
    step, done = StepProfile(0.007, 0.00006, 0.00000003, 0.00002), ("quantization-awq",)
    made = [replace(d, derived_from=PLAIN, optimizations=done, step=varied(step, done)) for d in variants]
    return (replace(plain, step=step), *made)


@cache
def play(seed: int, *, feedback_ratio: float = 0.5) -> Run:
    rng, now, rows = Random(seed), 0.0, []
    for _ in range(4 * QUARTER):
        quality = {model: float(rng.random() < share) for model, share in TRUTH.items()}
        rows.append(Arrival(now, rng.randint(100, 300), rng.randint(10, 30), quality=quality))
        now += rng.expovariate(5.0)
    promise = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.006))
    terms = RequestClass("all", objectives=promise, floor=QualityFloor(FLOOR), exploration_ratio=0.05)
    policy = Policy("variants", (terms,), fleet())
    setting = Setting(Workload(tuple(rows)), FLEET, policy, Told(), seed=seed, feedback_ratio=feedback_ratio)

    async def scene() -> World:
        world = World(setting, None, None)
        told = Random(seed + 100)
        for _ in range(KNOWN):
            world.controller.qualities.observe(EXPECTED, PLAIN, "chat", float(told.random() < TRUTH[PLAIN]))
        await world.run()
        return world

    world = run_virtual(scene())
    picks = [""] * len(rows)
    for served in world.served:
        picks[int(served.request_id)] = served.deployment or ""
    names = {d.name: d.model for d in fleet()}
    last = range(3 * QUARTER, 4 * QUARTER)
    return Run(picks, sum(float((rows[i].quality or {})[names[DeploymentName(picks[i])]]) for i in last) / QUARTER)


def test_a_good_variant_gains_and_a_ruined_one_loses_its_share() -> None:
    """The base is too slow for its objective, both variants are expected to be in time and as good as it is, and the
    ruined one is the cheaper: with half of the answers judged it is left within its first answers, has no more than
    what exploration needs to be sure of it, then nothing, and the good one has nearly all from the second quarter on,
    whatever the seed."""
    for seed in range(4):
        run = play(seed)
        assert run.share("ruined", 0) < 0.1
        assert run.share("ruined", 1) < 0.05
        assert run.share("ruined", 2) < 0.02
        assert run.share("ruined", 3) == 0.0
        assert all(run.share("good", quarter) > 0.95 for quarter in (1, 2, 3))
        assert run.adequate >= FLOOR


def test_nobody_tells_and_the_cheaper_variant_keeps_its_share() -> None:
    """Without verdicts there is nothing to choose by but the price: it is measurement that decides."""
    run = play(0, feedback_ratio=0.0)
    assert run.share("ruined", 3) > 0.9
    assert run.adequate < FLOOR
