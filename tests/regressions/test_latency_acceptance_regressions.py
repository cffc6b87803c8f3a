"""Promises, floors and limits at the edge: objectives nobody can keep, classes at odds, a fleet that is too poor."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.registry import default_estimator
from router.core.capacity.promised import Promised
from router.core.fleet import Fleet, Member
from router.domain.deployment import Deployment, LimitKind, Mode, Tier
from router.domain.slo import FloorUnderOverload, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.compile import compile_policy
from router.policy.policy import Bounds
from router.sim.recorded import RecordedEstimator
from router.sim.run import Setting, simulate
from router.sim.workload import Arrival, Workload
from router.slo.floor import FloorPrice
from router.slo.refusal import RefusalPrice
from tests.regressions.house import deployment

SMALL = """
  - name: small
    model: s
    tier: small
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
"""
LARGE = """
  - name: large
    model: l
    tier: large
    price_usd_per_mtok: {input: 0.99, output: 0.99}
    step_ms: {base: 16.4034, per_sequence: 0.080096, per_context_token: 0.000023, per_prefill_token: 0.0650}
"""
ONE = "{ttft: 500ms, tpot: 50ms}"


def arrivals(per_s: float, seconds: float, *, classes: dict[str, float] | None = None, seed: int = 1) -> Workload:
    """Poisson arrivals of one size; the small model is as good as a calibrated estimate says, the large one always."""
    rng, rows, at_s = Random(seed), list[Arrival](), 0.0
    while (at_s := at_s + rng.expovariate(per_s)) < seconds:
        p = rng.betavariate(2.2, 1.5)
        rows.append(
            Arrival(
                at_s,
                800,
                120,
                request_class=rng.choices(*zip(*classes.items(), strict=True))[0] if classes else None,
                quality={"s": float(rng.random() < p), "l": 1.0},
                estimate={"s": p, "l": 1.0},
            )
        )
    return Workload(tuple(rows))


def played(servers: str, policy: str, workload: Workload) -> dict[str, Any]:
    """The report of one run."""
    fleet = read_fleet("deployments:" + servers)
    listed = deployments(fleet)
    estimator = RecordedEstimator(workload, default_estimator())
    return simulate(Setting(workload, fleet, compile_policy([("p.yaml", policy)], deployments=listed), estimator))


def promising(name: str, tpot_s: float, **fields: Any) -> RequestClass:
    """A class that promises only a time per output token."""
    return RequestClass(name, objectives=Objectives(tpot=Objective(Indicator.TPOT, tpot_s)), **fields)


def member_of(*listed: Deployment) -> Member:
    """The first of a fleet."""
    return next(iter(Fleet(listed, Bounds()).members.values()))


def test_a_promise_of_another_class_does_not_shut_a_deployment_that_it_may_not_use() -> None:
    """A class of the small server promises 10 ms a token, which the large one cannot keep even alone. Its limit fell to
    one call for that, and nine in ten requests of the class that uses it were refused."""
    policy = """
classes:
  - {name: fast, match: {classes: [fast]}, order: -1, objectives: {tpot: 10ms}, deployments: [small], sheddable: true}
  - {name: slow, objectives: {ttft: 2s, tpot: 60ms}, deployments: [large], sheddable: true}
"""
    report = played(SMALL + LARGE, policy, arrivals(6.0, 40.0, classes={"fast": 0.4, "slow": 0.6}))
    assert report["by_class"]["slow"]["slo_met"] > 0.95
    assert report["by_class"]["fast"]["slo_met"] > 0.9


@pytest.mark.parametrize("sheddable", ["true", "false"])
def test_a_promise_that_nobody_can_keep_costs_others_nothing(sheddable: str) -> None:
    """5 ms a token is less than any server takes alone. What no load could keep presses on no price and moves no limit:
    those who share the servers keep their promises, and without shedding nobody is lost in the queue."""
    policy = f"""
classes:
  - {{name: wish, match: {{classes: [wish]}}, order: -1, objectives: {{tpot: 5ms}}, sheddable: {sheddable}}}
  - {{name: other, objectives: {ONE}, sheddable: {sheddable}}}
"""
    report = played(SMALL + LARGE, policy, arrivals(6.0, 40.0, classes={"wish": 0.4, "other": 0.6}))
    assert report["by_class"]["other"]["slo_met"] > 0.95
    if sheddable == "false":
        assert report["overall"]["completed"] == report["overall"]["offered"]


def test_the_time_per_token_to_keep_is_the_tightest_that_can_be_kept_of_those_who_ask() -> None:
    """Classes count that may use the deployment and of which a request came within minutes, until one came all; what a
    call alone would miss does not count, and where nothing else is promised twice that is kept."""
    member = member_of(deployment("large", Tier.LARGE))
    alone_s = member.latency.alone_s
    tight, wide, elsewhere = (
        promising("tight", 2.0 * alone_s),
        promising("wide", 3.0 * alone_s),
        promising("elsewhere", 1.5 * alone_s, deployments=("small",)),
    )
    promised = Promised([tight, wide, elsewhere, promising("wish", 0.5 * alone_s)])
    assert promised.tpot_s(member, now=0.0) == tight.objectives.tpot.threshold_s  # type: ignore[union-attr]
    promised.see(wide, now=10.0)
    assert promised.tpot_s(member, now=10.0) == pytest.approx(3.0 * alone_s)
    promised.see(tight, now=400.0)
    assert promised.tpot_s(member, now=400.0) == pytest.approx(2.0 * alone_s)
    assert Promised([promising("wish", 0.5 * alone_s)]).tpot_s(member, now=0.0) == pytest.approx(2.0 * alone_s)
    assert Promised([RequestClass("any")]).tpot_s(member, now=0.0) is None


def test_a_floor_that_is_kept_by_refusing_is_kept_where_nobody_is_good_enough() -> None:
    """One server that is adequate for six in ten: a floor of .9 was forgotten, because no price could buy it. Now only
    the likeliest are served."""
    policy = f"""
class: {{name: all, objectives: {ONE}, floor: {{ratio: 0.9, under_overload: shed}}, sheddable: true}}
"""
    overall = played(SMALL, policy, arrivals(6.0, 200.0))["overall"]
    assert overall["adequate_of_served"] > 0.85
    assert overall["completed"] > 0.1 * overall["offered"]


def test_a_floor_that_may_give_refuses_nobody_on_an_idle_server() -> None:
    """One server, a tenth of what it can do: the price of a floor that it cannot keep had refused one in eight."""
    policy = f"""
class: {{name: all, objectives: {ONE}, floor: {{ratio: 0.9, under_overload: degrade}}, sheddable: true}}
"""
    overall = played(SMALL, policy, arrivals(3.0, 60.0))["overall"]
    assert overall["completed"] > 0.98 * overall["offered"]


def test_what_refusing_is_worth_is_gone_when_quality_is_back() -> None:
    """It rises within some thirty answers while the target is out of reach, and falls as fast when it no longer is; the
    price of what can be bought stays where it was."""
    price = FloorPrice(QualityFloor(0.9, None, FloorUnderOverload.SHED), high=8.0)
    before = price.value
    for _ in range(40):
        assert price.on_served(0.7, 0.7, may_refuse=True)
    assert price.with_refusal > 8.0
    assert price.value == before
    for _ in range(50):
        price.on_served(1.0, 1.0, may_refuse=True)
    assert price.refusal.value == 0.0


def test_refusing_is_worth_nothing_until_quality_is_out_of_reach() -> None:
    """Answers under the target move it only once one of them was the best there was."""
    refusal = RefusalPrice()
    for _ in range(100):
        refusal.move(0.3, out_of_reach=False)
    assert refusal.value == 0.0
    refusal.move(0.3, out_of_reach=True)
    assert refusal.value > 0.0


def test_what_was_served_better_than_promised_is_used_up_before_anybody_is_refused() -> None:
    """A mean is promised. Hundred answers that were .1 better pay for thirty-three that are .3 worse, and however long
    all was well, it pays for fifty that are inadequate at most."""
    refusal, long = RefusalPrice(), RefusalPrice()
    for _ in range(100):
        refusal.move(-0.1, out_of_reach=False)
    worse = iter(range(1000))
    while refusal.value == 0.0:
        next(worse)
        refusal.move(0.3, out_of_reach=True)
    assert next(worse) == pytest.approx(100 * 0.1 / 0.3, abs=2)
    for _ in range(10_000):
        long.move(-0.1, out_of_reach=False)
    for _ in range(51):
        long.move(1.0, out_of_reach=True)
    assert long.value > 0.0


def test_a_simulated_fleet_is_steered_as_the_policy_says_of_deployments_of_its_name() -> None:
    """A fixed limit, a bound on calls and advice were left out of `router simulate` and `router policy try` without a
    word: every deployment had the limit that a policy has that says nothing."""
    more = LARGE.replace("name: large", "name: more")
    fleet = deployments(read_fleet("deployments:" + SMALL + LARGE + more))
    policy = """
deployments:
  - {name: small, model: s, tier: small, backend: simulated, limit: {kind: fixed, requests: 3}, max_in_flight: 7}
  - {name: large, model: l, tier: large, backend: simulated, mode: advise}
classes: [{name: all}]
prices: {models: {s: {input: 1, output: 1}, l: {input: 2, output: 2}}}
"""
    small, large, other = compile_policy([("p.yaml", policy)], deployments=fleet).deployments
    assert (small.limit.kind, small.limit.requests, small.max_in_flight) == (LimitKind.FIXED, 3, 7)
    assert (large.mode, other.mode, small.mode) == (Mode.ADVISE, Mode.ACT, Mode.ACT)
    assert small.price == fleet[0].price
