"""Reserved capacity is filled first, spills before a promise breaks, is never overdrawn, and its waste is told."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.control.capacity import ReserveObserved, SpillChanged
from router.domain.deployment import Tier
from router.domain.events import AttemptEnded, DecisionMade, Event, LimitUpdate
from router.domain.outcome import Ending
from router.domain.request import Request
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Arrival, Workload

INPUT, OUTPUT = 120_000, 24_000
FLEET = f"""
deployments:
  - name: reserved
    model: m
    tier: large
    kind: provisioned
    tokens_per_min: {{input: {INPUT}, output: {OUTPUT}}}
    hourly_usd: 6.0
    step_ms: {{base: 16.4, per_sequence: 0.08, per_context_token: 0.000023, per_prefill_token: 0.065}}
  - name: ondemand
    model: m
    tier: large
    price_usd_per_mtok: {{input: 0.99, output: 0.99}}
    step_ms: {{base: 16.4, per_sequence: 0.08, per_context_token: 0.000023, per_prefill_token: 0.065}}
"""
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))


class Sure:
    """Every model is adequate."""

    def estimate(self, request: Request) -> Scored:
        return Scored(0.0, "chat", {"m": 1.0}, {Tier.SMALL: 1.0, Tier.LARGE: 1.0})


class Watched(World):
    """Keeps every event, and the levels of the buckets right after each decision."""

    def __init__(self, setting: Setting) -> None:
        self.events: list[tuple[float, Event]] = []
        self.lowest = (float("inf"), float("inf"))
        super().__init__(setting, None, None)

    def emit(self, event: Event) -> None:
        self.events.append((self.now(), event))
        if isinstance(event, DecisionMade) and event.decision.chosen == "reserved":
            quota = next(m.quota for n, m in self.controller.fleet.members.items() if n == "reserved")
            assert quota is not None
            self.lowest = (min(self.lowest[0], quota.input.level), min(self.lowest[1], quota.output.level))
        super().emit(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for _, e in self.events if type(e) is kind]

    def share(self, start: float = 0.0, end: float = 1e9) -> float:
        picks = [e.decision.chosen for at, e in self.events if isinstance(e, DecisionMade) and start <= at < end]
        return picks.count("reserved") / max(len(picks), 1)


def arrivals(*phases: tuple[float, float], seed: int = 1) -> Workload:
    """Poisson, phase after phase of (until, requests a second); about 1,000 tokens in and 150 out."""
    rng, now, rows = Random(seed), 0.0, []
    for until, per_s in phases:
        while now < until:
            rows.append(Arrival(now, rng.randint(500, 1500), rng.randint(50, 250), quality={"m": 1.0}))
            now += rng.expovariate(per_s)
    return Workload(tuple(rows))


def run(workload: Workload, *, fleet: str = FLEET, told: bool = True) -> Watched:
    """`told`: the router knows the size of what is reserved."""
    spec = read_fleet(fleet)
    known = deployments(spec)
    if not told:
        known = tuple(replace(d, quota=None) for d in known)
    policy = Policy("test", (RequestClass("all", objectives=PROMISE),), known)

    async def scene() -> Watched:
        world = Watched(Setting(workload, spec, policy, Sure()))
        await world.run()
        return world

    return run_virtual(scene())


def test_reserved_capacity_is_filled_first() -> None:
    """At half of what it takes in a minute nearly everything goes there, nothing spills, and half of it is wasted: of
    5 minutes at USD 6 an hour that is 25 cents."""
    world = run(arrivals((300.0, 1.0)))
    assert world.share() > 0.97
    assert world.of(SpillChanged) == []
    report = world.capacity.report(world.controller, now=world.now())["reserved"]["reserved"]  # type: ignore[index]
    rows = world._setting.workload.arrivals
    lasted = report["wasted_usd"] / 6.0 * 3600.0
    used = sum(row.input_tokens for row in rows) / INPUT * 60.0
    assert lasted == pytest.approx(300.0 - used, abs=15.0)
    assert report["input_ratio"] == pytest.approx(0.5, abs=0.06)


def test_accounts_add_up_to_what_was_used() -> None:
    """Minute by minute: tokens told are those of the calls that ended there, and waste is what is left of the hour."""
    world = run(arrivals((240.0, 1.0)))
    last = world.controller.fleet.members["reserved"].reserve.close(world.now())  # type: ignore[index,union-attr]
    accounts = [*world.of(ReserveObserved), last]
    ended = [e.outcome for e in world.of(AttemptEnded) if e.outcome.attempt.deployment.name == "reserved"]
    assert sum(a.input_tokens for a in accounts) == sum(o.input_tokens for o in ended)
    assert sum(a.output_tokens for a in accounts) == pytest.approx(sum(o.output_tokens for o in ended))
    for account in accounts:
        used = max(account.input_ratio, account.output_ratio)
        assert account.wasted_hours == pytest.approx((1.0 - min(used, 1.0)) * account.seconds / 3600.0)
        assert account.wasted_usd == pytest.approx(account.wasted_hours * 6.0)


def test_a_burst_spills_and_keeps_the_promise_and_comes_back() -> None:
    """Three times what is reserved for two minutes: the rest is bought, what is reserved stays in full use, 99 % are in
    time, nobody is throttled; afterwards everything is back within a minute, and spilling began and ended once."""
    world = run(arrivals((120.0, 1.0), (240.0, 6.0), (420.0, 1.0)))
    assert world.share(0.0, 120.0) > 0.97
    assert 0.2 < world.share(150.0, 240.0) < 0.45
    assert world.share(300.0, 420.0) > 0.97
    changes = [(e.old, e.new) for e in world.of(SpillChanged)]
    assert changes == [("filling", "spilling"), ("spilling", "filling")]
    assert sum(s.slo_met for s in world.served) > 0.99 * len(world.served)
    burst = [e for at, e in world.events if isinstance(e, ReserveObserved) and 180.0 < at <= 241.0]
    assert all(max(e.input_ratio, e.output_ratio) > 0.93 for e in burst)
    assert [e for e in world.of(AttemptEnded) if e.outcome.error_code == "throttled"] == []


def test_the_ledger_never_overdraws_a_bucket() -> None:
    """However hard it is pressed, with nothing to spill to: no decision takes more than the buckets hold, the server
    throttles nobody, and what it gives is used."""
    alone = FLEET[: FLEET.index("  - name: ondemand")]
    world = run(arrivals((120.0, 6.0)), fleet=alone)
    assert world.lowest[0] >= 0.0
    assert world.lowest[1] >= 0.0
    assert [e for e in world.of(AttemptEnded) if e.outcome.error_code == "throttled"] == []
    assert sum(e.outcome.input_tokens for e in world.of(AttemptEnded)) > 2.5 * INPUT


def test_a_slow_reserve_spills_for_the_promise_alone() -> None:
    """Four times slower for a minute with buckets half empty: load leaves, because predictions say so, and returns."""
    events = "events:\n  - {at_s: 100, until_s: 160, deployment: reserved, slowdown: 4.0}\n"
    world = run(arrivals((320.0, 1.0)), fleet=FLEET + events)
    assert world.share(110.0, 160.0) < 0.3
    assert world.share(220.0, 320.0) > 0.9


def test_a_size_that_nobody_states_is_learned_from_throttles() -> None:
    """Under four times the load the size is found within a fifth after two minutes, few calls are throttled from then
    on, and every move says why."""
    world = run(arrivals((420.0, 8.0)), told=False)
    sizes = [e for e in world.of(LimitUpdate) if e.what == "input_tokens_per_min"]
    assert sizes
    assert {e.reason for e in sizes} <= {"throttled", "a minute of full use without a throttle"}
    learned = [e.new for at, e in world.events if type(e) is LimitUpdate and at > 120.0 and e in sizes] or [
        sizes[-1].new
    ]
    assert all(0.75 * INPUT < size < 1.45 * INPUT for size in learned)
    late = [
        e.outcome
        for at, e in world.events
        if isinstance(e, AttemptEnded) and at > 120.0 and e.outcome.attempt.deployment.name == "reserved"
    ]
    throttled = [o for o in late if o.ending is Ending.FAILED]
    assert len(throttled) < 0.1 * len(late)
    assert world.share(180.0, 420.0) > 0.15
