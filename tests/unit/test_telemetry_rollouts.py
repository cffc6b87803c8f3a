"""Rollouts in figures: where each stands, what a shadow would do, how arms compare."""

from __future__ import annotations

import math
from random import Random

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from bench.traffic import change_events, policy, request_events
from router.domain.decision import Terms
from router.domain.events import Event, ExperimentObserved, RequestEnded, RolloutChanged, ShadowCompared
from router.telemetry.metrics import Metrics
from router.telemetry.metrics.rollouts import STATES
from router.telemetry.sink import Sink

POLICY = policy(classes=2, deployments=2)
FIRST, SECOND = ({"request_class": f"class-{n}"} for n in range(2))
TERMS = Terms(
    p_slo=0.9,
    p_adequate=0.8,
    ttft_s=0.1,
    tpot_s=0.01,
    e2e_s=1.0,
    output_tokens=100,
    cost_usd=0.002,
    useful=0.7,
    floor=0.0,
    cost=0.0,
    capacity=0.0,
)


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sink = Sink(Metrics(POLICY, self.registry).subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.sink.emit(event)
        self.sink.drain_all()
        assert not any(self.sink.failures.values()), self.sink.failures

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def states(self, **labels: str) -> dict[str, float]:
        found = {state: self.value("router_rollout_state", state=state, **labels) for state in STATES}
        return {state: value for state, value in found.items() if value}

    def names(self) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(s.name, tuple(sorted(s.labels.items()))) for f in self.registry.collect() for s in f.samples}


def changed(state: str, ratio: float, version: str = "v1", request_class: str = "class-0") -> RolloutChanged:
    return RolloutChanged(request_class, state, ratio, version, "because", 1.0)


def ended(**changes: object) -> RequestEnded:
    """A request of the first class."""
    event = next(e for e in request_events(0, Random(1), POLICY) if isinstance(e, RequestEnded))
    base = {"slo_met": True, "cost_usd": 0.25, "input_tokens": 10, "output_tokens": 20, "p_adequate": 0.75}
    return msgspec.structs.replace(event, **{**base, **changes})


def compared(would: str, *, cost_usd: float = 0.001) -> ShadowCompared:
    shadow = msgspec.structs.replace(TERMS, cost_usd=cost_usd, p_slo=0.7)
    return ShadowCompared("d", "class-0", "v1", "large-1", would, None, TERMS, shadow)


def test_one_state_at_a_time() -> None:
    """A class is stable before its first rollout; then the last thing said of it holds, with its share."""
    told = Told()
    assert told.states(**FIRST) == {"stable": 1}
    for state, ratio in (("canary", 0.05), ("canary", 0.25), ("promoted", 1.0)):
        told.tell(changed(state, ratio))
        assert told.states(**FIRST) == {state: 1}
        assert told.value("router_rollout_ratio", **FIRST) == ratio
    assert told.value("router_rollout_changes_total", **FIRST, state="canary") == 2
    assert told.states(**SECOND) == {"stable": 1}


@pytest.mark.parametrize(("state", "ratio"), [("superseded", 0.0), ("rolled_back", 0.0), ("promoted", 1.0)])
def test_a_rollout_that_ended_has_all_or_nothing(state: str, ratio: float) -> None:
    """Whatever share the edit had on its way, after its end it has every request or none."""
    told = Told()
    told.tell(changed("canary", 0.25), changed(state, 0.25))
    assert told.value("router_rollout_ratio", **FIRST) == ratio


def test_a_state_nobody_knows_makes_no_series() -> None:
    """A word that is not one of the states is counted as other and shows as no state at all."""
    told = Told()
    told.tell(*(changed(f"made-up-{n}", 0.1) for n in range(50)))
    assert told.value("router_rollout_changes_total", **FIRST, state="other") == 50
    assert told.states(**FIRST) == {}


def test_a_shadow_is_compared_over_what_both_would_serve() -> None:
    """Same, other and refused are told apart; the sums of both sides are over the same requests."""
    told = Told()
    told.tell(
        compared("large-1"),
        compared("small-0"),
        ShadowCompared("d", "class-0", "v1", "large-1", "", "too_dear", TERMS, None),
    )
    results = ("same", "other", "refused")
    assert [told.value("router_shadow_decisions_total", **FIRST, result=r) for r in results] == [1, 1, 1]
    live, shadow = ({**FIRST, "side": side} for side in ("live", "shadow"))
    assert told.value("router_shadow_cost_usd_total", **live) == pytest.approx(2 * 0.002)
    assert told.value("router_shadow_cost_usd_total", **shadow) == pytest.approx(2 * 0.001)
    assert told.value("router_shadow_predicted_slo_good_total", **live) == pytest.approx(1.8)
    assert told.value("router_shadow_predicted_slo_good_total", **shadow) == pytest.approx(1.4)
    assert told.value("router_shadow_predicted_adequate_total", **shadow) == pytest.approx(1.6)
    assert told.value("router_shadow_picks_total", **live, deployment="large-1") == 2
    assert told.value("router_shadow_picks_total", **shadow, deployment="small-0") == 1


def test_arms_are_counted_by_what_became_of_their_requests() -> None:
    """Requests by SLO met, money, tokens and what was useful, for each side."""
    told = Told()
    told.tell(ended(arm="canary"), ended(arm="canary", slo_met=False), ended(arm="stable"), ended(arm=""))
    canary = {**FIRST, "arm": "canary"}
    assert told.value("router_arm_requests_total", **canary, slo_met="true") == 1
    assert told.value("router_arm_requests_total", **canary, slo_met="false") == 1
    assert told.value("router_arm_requests_total", **FIRST, arm="stable", slo_met="true") == 1
    assert told.value("router_arm_cost_usd_total", **canary) == 0.5
    assert told.value("router_arm_input_tokens_total", **canary) == 20
    assert told.value("router_arm_output_tokens_total", **canary) == 40
    assert told.value("router_arm_useful_requests_total", **canary) == 0.75, "what was late is not useful"
    assert told.value("router_useful_requests_total", **FIRST) == 3 * 0.75, "with a side or without"


@pytest.mark.parametrize(
    "changes",
    [
        {"arm": ""},
        {"arm": "canary", "code": "client_gone"},
        {"arm": "canary", "status": "cancelled"},
        {"arm": "canary", "deployment": "cache"},
    ],
)
def test_what_says_nothing_of_a_side_counts_for_none(changes: dict[str, str]) -> None:
    """Outside of rollouts, with the client gone, or from the cache: no arm has a request more."""
    told = Told()
    told.tell(ended(**changes))
    counted = [s.value for f in told.registry.collect() for s in f.samples if s.name.startswith("router_arm_")]
    assert counted
    assert not any(counted)


def test_arms_are_a_closed_set() -> None:
    """Sides of a canary and arms of the policy have names; others are one series."""
    told = Told()
    assert told.value("router_arm_requests_total", **SECOND, arm="brief", slo_met="true") == 0
    told.tell(*(ended(arm=f"made-up-{n}") for n in range(20)))
    assert told.value("router_arm_requests_total", **FIRST, arm="other", slo_met="true") == 20


def test_an_interval_is_three_gauges_that_the_next_rollout_replaces() -> None:
    """Figures of an experiment stay after its end and go when another begins; other classes keep theirs."""
    told = Told()
    told.tell(
        changed("canary", 0.05),
        ExperimentObserved("class-0", "canary", "slo", 40, 0.9, 0.8, 0.95),
        ExperimentObserved("class-1", "brief", "cost", 7, 0.01, 0.001, 0.02),
        changed("canary", 0.25),
        changed("promoted", 1.0),
    )
    key = {**FIRST, "arm": "canary", "measure": "slo"}
    figures = {end: told.value(f"router_experiment_{end}", **key) for end in ("requests", "mean", "low", "high")}
    assert figures == {"requests": 40, "mean": 0.9, "low": 0.8, "high": 0.95}
    told.tell(changed("canary", 0.05, version="v2"))
    assert told.value("router_experiment_mean", **key) is None
    assert told.value("router_experiment_mean", **SECOND, arm="brief", measure="cost") == 0.01


def test_an_interval_that_knows_nothing_yet_is_not_drawn() -> None:
    """Ends at infinity are left out until there are real ones; the mean is there."""
    told = Told()
    key = {**FIRST, "arm": "canary", "measure": "cost"}
    told.tell(ExperimentObserved("class-0", "canary", "cost", 2, 0.01, -math.inf, math.inf))
    assert told.value("router_experiment_mean", **key) == 0.01
    assert told.value("router_experiment_low", **key) is None
    told.tell(ExperimentObserved("class-0", "canary", "cost", 50, 0.01, 0.008, 0.012))
    assert told.value("router_experiment_high", **key) == 0.012


def test_known_changes_make_no_counter_that_was_not_there() -> None:
    """What rollouts, budgets and caches of the policy count existed at 0 before it happened."""
    told = Told()
    before = told.names()
    told.tell(*(event for n in range(8) for event in change_events(n, POLICY)))
    new = {name for name, _ in told.names() - before if name.endswith("_total")}
    assert new == {"router_shadow_picks_total"}, "which exists from the start where the mode is shadow"
