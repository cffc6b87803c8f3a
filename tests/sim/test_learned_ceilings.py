"""A learned max_tokens in the whole loop: simulated servers cut at it, the daemon's own dispatcher learns from that."""

from __future__ import annotations

import math
from random import Random

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.events import CeilingUpdate, Event
from router.domain.request import Request
from router.domain.slo import Ceiling, Parameters, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.report import Served
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

MODEL = "llama-3.1-8b"
FLEET = """
deployments:
  - name: small
    model: llama-3.1-8b
    tier: small
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
"""


class Sure:
    """Every answer will do."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.1, "chat", {MODEL: 0.9}, {Tier.SMALL: 0.9, Tier.LARGE: 0.9})


class Told(World):
    """A world that keeps the moves of its ceilings."""

    moves: list[CeilingUpdate]

    def emit(self, event: Event) -> None:
        if isinstance(event, CeilingUpdate):
            self.moves.append(event)
        super().emit(event)


def played(parameters: Parameters) -> Told:
    """600 answers of 150 tokens in the middle and 380 at the 97th percentile, all of them good ones if whole."""
    rng = Random(5)
    rows = [
        Arrival(0.5 * i, 100, max(1, round(150 * math.exp(0.5 * rng.gauss(0, 1)))), quality={MODEL: 1.0})
        for i in range(600)
    ]
    fleet = read_fleet(FLEET)
    policy = Policy("test", (RequestClass("all", parameters=parameters),), deployments(fleet))

    async def scene() -> Told:
        world = Told(Setting(Workload(tuple(rows)), fleet, policy, Sure()), None, None)
        world.moves = []
        await world.run()
        return world

    return run_virtual(scene())


def bad(served: list[Served]) -> float:
    """Share of the answers that would not do."""
    return sum(not one.adequate for one in served) / len(served)


def test_a_ceiling_that_is_far_too_low_is_learned_away() -> None:
    """At first nearly every answer is cut and none of those counts as adequate; in the end hardly any is."""
    world = played(Parameters(ceiling=Ceiling(40)))
    served = sorted(world.served, key=lambda one: int(one.request_id))
    assert bad(served[:32]) > 0.9
    assert bad(served[-200:]) <= 0.03
    assert [move.new_tokens > move.old_tokens for move in world.moves[:4]] == [True] * 4
    assert 300 < world.moves[-1].new_tokens < 700


def test_where_answers_end_by_themselves_a_ceiling_changes_nothing_of_them() -> None:
    """It is no target: with one that starts far above, every answer is as long as with none."""
    bounded, free = played(Parameters(ceiling=Ceiling(4096, least_tokens=2000))), played(Parameters())
    assert bounded.moves
    assert bad(bounded.served) == 0.0
    assert {s.request_id: s.e2e_s for s in bounded.served} == {s.request_id: s.e2e_s for s in free.served}
    assert sum(s.cost_usd for s in bounded.served) == sum(s.cost_usd for s in free.served)


def test_a_fixed_bound_stays_too_low() -> None:
    """What is not learned does not move."""
    world = played(Parameters(max_tokens=40))
    assert bad(list(world.served)) > 0.9
    assert not world.moves
