"""An edit goes live by steps and comes back by itself. On the virtual clock, in the daemon's dispatcher."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.rollout import Arm, Measure, Rollout, RolloutMode, SplitBy
from router.domain.slo import Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.run import Setting, simulate
from router.sim.workload import Arrival, Workload

FLEET = read_fleet("""
deployments:
  - name: quick
    model: quick-8b
    tier: small
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.7, per_sequence: 0.058, per_context_token: 0.00003, per_prefill_token: 0.02}
  - name: slow
    model: slow-8b
    tier: small
    price_usd_per_mtok: {input: 0.11, output: 0.11}
    step_ms: {base: 80, per_sequence: 0.058, per_context_token: 0.00003, per_prefill_token: 0.9}
  - name: fine
    model: fine-8b
    tier: small
    price_usd_per_mtok: {input: 0.11, output: 0.11}
    step_ms: {base: 8, per_sequence: 0.058, per_context_token: 0.00003, per_prefill_token: 0.03}
""")
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
CANARY = Rollout(RolloutMode.CANARY, steps=(0.05, 0.25, 0.5), step_s=120.0, min_requests=20)
OLD = RequestClass("chat", objectives=PROMISE, deployments=("quick",))
EDIT_AT_S = 60.0


class Known:
    """Every model is adequate with a probability of its own."""

    def __init__(self, **by_model: float) -> None:
        self._estimates = {
            f"{name}-8b": p for name, p in ({"quick": 0.95, "slow": 0.95, "fine": 0.95} | by_model).items()
        }

    def estimate(self, request: Request) -> Scored:
        p = max(self._estimates.values())
        return Scored(0.1, "chat", self._estimates, {Tier.SMALL: p, Tier.LARGE: p})


def arrivals(seconds: float, per_s: float, *, tenants: int = 1) -> Workload:
    rng, now, rows = Random(3), 0.0, []
    while now < seconds:
        good = {f"{name}-8b": 1.0 for name in ("quick", "slow", "fine")}
        rows.append(
            Arrival(now, rng.randint(200, 800), rng.randint(20, 60), tenant=f"t{rng.randrange(tenants)}", quality=good)
        )
        now += rng.expovariate(per_s)
    return Workload(tuple(rows))


def rollouts_of(
    new: RequestClass,
    *,
    old: RequestClass = OLD,
    seconds: float = 900.0,
    per_s: float = 4.0,
    estimates: Mapping[str, float] | None = None,
    tenants: int = 1,
) -> dict[str, Any]:
    """What the report says of rollouts after `new` took the place of `old` in the directory."""
    fleet = deployments(FLEET)
    setting = Setting(
        arrivals(seconds, per_s, tenants=tenants),
        FLEET,
        Policy("old", (old,), fleet),
        Known(**(estimates or {})),
        edits=((EDIT_AT_S, Policy("new", (new,), fleet)),),
    )
    report: dict[str, Any] = simulate(setting)
    return report["rollouts"]


def states(told: dict[str, Any]) -> list[str]:
    return [change["state"] for change in told["transitions"]]


@pytest.fixture(scope="module")
def broken() -> dict[str, Any]:
    """A canary at 5 % whose deployment cannot meet the TTFT objective."""
    return rollouts_of(RequestClass("chat", objectives=PROMISE, deployments=("slow",), rollout=CANARY))


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """A canary whose deployment keeps every promise at half the price."""
    return rollouts_of(RequestClass("chat", objectives=PROMISE, deployments=("fine",), rollout=CANARY))


def test_a_canary_that_breaks_its_objective_is_rolled_back(broken: dict[str, Any]) -> None:
    """It begins, and goes back with the objective that burned in the reason; it is never promoted."""
    assert states(broken) == ["canary", "rolled_back"]
    assert "burn rate" in broken["transitions"][-1]["reason"]
    assert "ttft" in broken["transitions"][-1]["reason"] or "tpot" in broken["transitions"][-1]["reason"]


def test_a_bad_canary_spends_little_of_the_error_budget(broken: dict[str, Any]) -> None:
    """Less than 2 % of the class's monthly error budget, counted over all its traffic."""
    spent = {name: share for name, share in broken["error_budget_spent"].items() if "/canary/" in name}
    assert spent
    assert max(spent.values()) < 0.02


def test_nobody_gets_an_edit_that_was_taken_back(broken: dict[str, Any]) -> None:
    """After the rollback's minute every request is decided under the class as it was."""
    back = broken["transitions"][-1]["at_s"] // 60
    assert all(minute["minute"] <= back + 1 for minute in broken["sides"]["chat/canary"])


def test_a_good_canary_is_promoted_by_steps(good: dict[str, Any]) -> None:
    """5 %, 25 %, 50 %, everything; each step has lasted its time."""
    changes = good["transitions"]
    assert [(c["state"], c["ratio"]) for c in changes] == [
        ("canary", 0.05),
        ("canary", 0.25),
        ("canary", 0.5),
        ("promoted", 1.0),
    ]
    gaps = [b["at_s"] - a["at_s"] for a, b in pairwise(changes)]
    assert min(gaps) >= 120.0


def test_a_canary_gets_its_share_and_no_more(good: dict[str, Any]) -> None:
    """On the first step about one in twenty requests is decided under the edit."""
    upto = int(good["transitions"][1]["at_s"] // 60)
    canary = sum(m["requests"] for m in good["sides"]["chat/canary"] if m["minute"] < upto)
    stable = sum(m["requests"] for m in good["sides"]["chat/stable"] if 1 <= m["minute"] < upto)
    assert 0.01 < canary / (canary + stable) < 0.12


def test_a_canary_whose_answers_are_too_poor_is_rolled_back() -> None:
    """In time but surely below the floor, where the class as it was is above it."""
    floor = QualityFloor(0.9)
    told = rollouts_of(
        RequestClass("chat", objectives=PROMISE, floor=floor, deployments=("fine",), rollout=CANARY),
        old=RequestClass("chat", objectives=PROMISE, floor=floor, deployments=("quick",)),
        estimates={"fine": 0.6},
        seconds=1500.0,
    )
    assert states(told)[-1] == "rolled_back"
    assert "quality" in told["transitions"][-1]["reason"]


def test_a_shadow_gets_no_traffic() -> None:
    """The edit is only compared: no side but the class as it was has requests."""
    told = rollouts_of(
        RequestClass("chat", objectives=PROMISE, deployments=("fine",), rollout=Rollout(RolloutMode.SHADOW)),
        seconds=200.0,
    )
    assert states(told) == ["shadow"]
    assert told["sides"] == {}


def test_tenants_stay_on_their_side() -> None:
    """With `by: tenant` each tenant is wholly on one side of a step."""
    terms = Rollout(RolloutMode.CANARY, by=SplitBy.TENANT, steps=(0.5,), step_s=1e6)
    told = rollouts_of(
        RequestClass("chat", objectives=PROMISE, deployments=("fine",), rollout=terms), seconds=200.0, tenants=1
    )
    assert len({name for name, minutes in told["sides"].items() if minutes}) == 1


def test_an_experiment_ends_when_one_arm_is_surely_best() -> None:
    """By cost: the arm on the cheaper deployment wins, with the intervals of both in the reason."""
    arms = (Arm("control", 0.5), Arm("cheaper", 0.5, deployments=("fine",)))
    terms = Rollout(RolloutMode.AB, arms=arms, measure=Measure.COST)
    told = rollouts_of(RequestClass("chat", objectives=PROMISE, deployments=("quick",), rollout=terms))
    assert states(told) == ["ab", "concluded"]
    assert told["transitions"][-1]["reason"].startswith("cheaper is best by cost")


def test_an_experiment_between_equals_is_not_decided() -> None:
    """Two arms that do the same: looked at ten times a second for a quarter of an hour, no winner."""
    arms = (Arm("a", 0.5), Arm("b", 0.5))
    terms = Rollout(RolloutMode.AB, arms=arms, measure=Measure.SLO)
    told = rollouts_of(RequestClass("chat", objectives=PROMISE, deployments=("quick",), rollout=terms))
    assert states(told) == ["ab"]
