"""A server that is full keeps prompts waiting though it is quick: the loop closed, on the virtual clock."""

from __future__ import annotations

from random import Random

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.registry import shipped_prior
from router.domain.events import Event, LimitUpdate
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

SMALL, FULL = "small", "full"
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
NEVER = ((0.0, 1e9),)
"""Telemetry that does not come."""


def fleet(room: str) -> str:
    """Two quick servers; the second, which is the cheaper, has little room."""
    return f"""
deployments:
  - name: {SMALL}
    model: llama-3.1-8b
    tier: small
    price_usd_per_mtok: {{input: 0.22, output: 0.22}}
    step_ms: {{base: 8, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
  - name: {FULL}
    model: llama-3.1-8b
    tier: small
    price_usd_per_mtok: {{input: 0.02, output: 0.02}}
    step_ms: {{base: 20, per_sequence: 0.06, per_context_token: 0.00003, per_prefill_token: 0.02}}
    {room}
"""


def workload(seconds: float, per_s: float) -> Workload:
    """Prompts of 200 to 2,000 tokens and answers of some 200."""
    rng, now, rows = Random(1), 0.0, []
    while now < seconds:
        rows.append(Arrival(now, rng.randint(200, 2000), rng.randint(50, 350)))
        now += rng.expovariate(per_s)
    return Workload(tuple(rows))


ROWS = workload(240.0, 9.0)


class Seen(World):
    """A world that keeps what limits did."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, None, None)
        self.updates: list[LimitUpdate] = []

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, LimitUpdate) and event.deployment == FULL:
            self.updates.append(event)


def played(room: str, lags: tuple[tuple[float, float], ...] = ()) -> Seen:
    spec = read_fleet(fleet(room), "fleet.yaml")
    policy = Policy("p", (RequestClass("all", objectives=PROMISE),), deployments(spec))
    setting = Setting(ROWS, spec, policy, shipped_prior().serving(()), telemetry_lags=lags)

    async def scene() -> Seen:
        world = Seen(setting)
        await world.run()
        return world

    return run_virtual(scene())


def in_time(world: Seen) -> float:
    return sum(bool(one.slo_met) for one in world.served) / len(world.served)


@pytest.mark.parametrize(("lags", "reason"), [((), "telemetry"), (NEVER, "full")])
def test_prompts_are_not_sent_where_memory_has_no_room(lags: tuple[tuple[float, float], ...], reason: str) -> None:
    """Room for 20,000 tokens where nobody says so: found to a tenth from what the server tells of its memory, or from
    prompts that it lets in late; more than 19 in 20 requests are in time all the same."""
    world = played("kv_tokens: 20000", lags)
    found = [u.new for u in world.updates if (u.what, u.reason) == ("tokens", reason)]
    assert found
    assert found[-1] == pytest.approx(20_000, rel=0.1)
    assert in_time(world) > 0.95


def test_prompts_are_not_sent_where_no_sequence_is_free() -> None:
    """Twelve sequences where nobody says so: found, and more than 19 in 20 requests are in time all the same."""
    world = played("max_sequences: 12")
    found = [u.new for u in world.updates if (u.what, u.reason) == ("in_flight", "full")]
    assert found
    assert found[-1] == pytest.approx(12.0, abs=1.0)
    assert in_time(world) > 0.95


def test_a_server_with_room_is_not_taken_for_full() -> None:
    """No bound is found where there is none near."""
    assert [u for u in played("kv_tokens: 400000", NEVER).updates if u.reason in ("full", "telemetry")] == []


def test_a_gateway_that_refuses_now_and_then_does_not_cost_the_limit() -> None:
    """Three in ten calls are refused for a minute and a half, whatever is in flight: the limit is cut once at most, for
    what it was never seen to take, and in the minute after that about as many are served there as before."""
    events = "events:\n  - {at_s: 60, until_s: 150, deployment: full, throttle_ratio: 0.3}"
    world = played(f"replicas: 1\n{events}")
    assert sum(u.reason == "refused" for u in world.updates) <= 1
    served = [(ROWS.arrivals[int(one.request_id)].at_s, one.deployment == FULL) for one in world.served]
    before = sum(there for at_s, there in served if at_s < 60.0)
    after = sum(there for at_s, there in served if 160.0 <= at_s < 220.0)
    assert after > 0.8 * before
