"""An edit shows at once: its bounds on gauges, its thresholds as edges, its rollout, and nothing counted is lost."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from bench.traffic import policy, request_events
from router.core.rollouts.status import RolloutStatus
from router.domain.events import Event, PolicyApplied, RequestEnded, RolloutChanged
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics
from router.telemetry.metrics.requests import EDGES_MAX
from router.telemetry.series import Histogram
from router.telemetry.sink import Sink

OLD = policy(classes=2, deployments=2)
CLASS = {"request_class": "class-1"}
TTFT = {**CLASS, "objective": "ttft"}


def edited(threshold_s: float, *, of: Policy = OLD, target: float = 0.95, **changes: object) -> Policy:
    """The policy with another TTFT objective in its second class."""
    *others, last = of.classes
    objectives = msgspec.structs.replace(last.objectives, ttft=Objective(Indicator.TTFT, threshold_s, target))
    last = msgspec.structs.replace(last, objectives=objectives, **changes)
    return msgspec.structs.replace(of, digest=f"d{threshold_s}", classes=(*others, last))


class Told:
    """Metrics behind a sink that follow a policy in force and one as written."""

    def __init__(self, in_force: Policy = OLD) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(in_force, self.registry)
        self.in_force = self.written = in_force
        self.sink = Sink(self.metrics.subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.sink.emit(event)
        self.sink.drain_all()
        assert not any(self.sink.failures.values()), self.sink.failures

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def answered(ttft_s: float) -> RequestEnded:
    """A request of the second class that got its first token after so long."""
    event = next(e for e in request_events(1, Random(1), OLD) if isinstance(e, RequestEnded))
    return msgspec.structs.replace(event, ttft_s=ttft_s, tier="small", request_class="class-1")


def test_a_new_objective_is_seen_at_once() -> None:
    """Threshold and target of an edit in force stand on the gauges after the event of the edit."""
    told = Told()
    told.metrics.follow(lambda: (told.in_force, told.written))
    assert told.value("router_slo_threshold_seconds", **TTFT) == pytest.approx(0.51)
    told.in_force = told.written = edited(0.3, target=0.9)
    told.tell(PolicyApplied(OLD.digest, told.written.digest, ("ttft",), 1.0))
    assert told.value("router_slo_threshold_seconds", **TTFT) == 0.3
    assert told.value("router_slo_target_ratio", **TTFT) == 0.9
    assert told.value("router_slo_edit_threshold_seconds", **TTFT) is None


def test_an_edit_on_its_way_stands_beside_what_is_in_force() -> None:
    """During a canary both bounds are shown; after the promotion one is."""
    told = Told()
    told.metrics.follow(lambda: (told.in_force, told.written))
    told.written = edited(0.3)
    told.tell(
        PolicyApplied(OLD.digest, told.written.digest, ("ttft",), 1.0),
        RolloutChanged("class-1", "canary", 0.05, "v", "the class was edited", 1.0),
    )
    assert told.value("router_slo_threshold_seconds", **TTFT) == pytest.approx(0.51)
    assert told.value("router_slo_edit_threshold_seconds", **TTFT) == 0.3
    assert told.value("router_slo_edit_target_ratio", **TTFT) == 0.95
    assert told.value("router_slo_edit_threshold_seconds", request_class="class-0", objective="ttft") is None
    assert told.value("router_ttft_seconds_bucket", **CLASS, tier="small", le="0.3") == 0
    told.in_force = told.written
    told.tell(RolloutChanged("class-1", "promoted", 1.0, "v", "no objective burned", 2.0))
    assert told.value("router_slo_threshold_seconds", **TTFT) == 0.3
    assert told.value("router_slo_edit_threshold_seconds", **TTFT) is None


def test_a_new_threshold_becomes_an_edge_and_no_count_is_lost() -> None:
    """After the edit the share within the new bound can be read; totals go on where they were."""
    told = Told()
    told.tell(answered(0.4), answered(0.02))
    told.metrics.adopt(edited(0.42))
    labels = {**CLASS, "tier": "small"}
    assert told.value("router_ttft_seconds_count", **labels) == 2
    told.tell(answered(0.41), answered(0.43))
    assert told.value("router_ttft_seconds_bucket", **labels, le="0.42") == 1 + 1, "0.02 and 0.41; 0.4 came before"
    assert told.value("router_ttft_seconds_bucket", **labels, le="0.5") == 4
    assert told.value("router_ttft_seconds_sum", **labels) == pytest.approx(0.4 + 0.02 + 0.41 + 0.43)


def test_an_edit_that_is_taken_back_changes_no_edge() -> None:
    """An edge promised once stays, so going back and forth moves nothing."""
    told = Told()
    told.metrics.adopt(edited(0.3))
    told.tell(answered(0.25))
    told.metrics.adopt(OLD)
    for le, count in (("0.2", 0), ("0.3", 1), ("0.51", 1)):
        assert told.value("router_ttft_seconds_bucket", **CLASS, tier="small", le=le) == count


def test_a_thousand_edits_do_not_make_a_thousand_edges() -> None:
    """Past a bound on edges, those that nobody promises any more are joined; the count stays."""
    told = Told()
    told.tell(answered(0.4))
    for n in range(1000):
        told.metrics.adopt(edited(0.2 + n / 10_000))
    buckets = [
        sample
        for family in told.registry.collect()
        for sample in family.samples
        if sample.name == "router_ttft_seconds_bucket" and {**CLASS, "tier": "small"}.items() <= sample.labels.items()
    ]
    assert len(buckets) <= EDGES_MAX + 1
    assert told.value("router_ttft_seconds_count", **CLASS, tier="small") == 1
    assert told.value("router_ttft_seconds_bucket", **CLASS, tier="small", le="0.2999") is not None


def test_totals_never_fall_when_edges_change() -> None:
    """Whatever edges come and go, the bucket of an edge that stays says what it said, and buckets stay in order."""
    rng, registry = Random(7), CollectorRegistry()
    histogram = Histogram(registry, "h_seconds", "h", edges=(0.5,))

    def buckets() -> dict[str, float]:
        return {s.labels["le"]: s.value for f in registry.collect() for s in f.samples if s.name == "h_seconds_bucket"}

    seen = 0
    for _ in range(50):
        for _ in range(rng.randrange(5)):
            histogram.observe((), rng.random())
            seen += 1
        before = buckets()
        histogram.refit(rng.sample([n / 20 for n in range(20)], rng.randrange(1, 12)))
        after = buckets()
        assert all(before[le] == count for le, count in after.items() if le in before)
        assert list(after.values()) == sorted(after.values())
        assert after.get("+Inf", 0) == seen


def test_what_stood_before_a_restart_is_shown_and_not_counted() -> None:
    """A canary and a ceiling that go on after a restart are on the gauges; nothing changed, so no change is counted."""
    told = Told()
    standing = RolloutStatus("class-1", "canary", "v", 0.25, None, "", ())
    ceilings = {("class-1", "model-0"): 640}
    told.metrics.follow(lambda: (OLD, edited(0.3)), rollouts=[standing], ceilings=ceilings)
    assert told.value("router_output_ceiling_tokens", **CLASS, model="model-0") == 640
    assert told.value("router_rollout_state", **CLASS, state="canary") == 1
    assert told.value("router_rollout_state", **CLASS, state="stable") == 0
    assert told.value("router_rollout_ratio", **CLASS) == 0.25
    assert told.value("router_rollout_changes_total", **CLASS, state="canary") == 0
    assert told.value("router_slo_edit_threshold_seconds", **TTFT) == 0.3


def test_new_names_of_an_edit_have_series_at_zero() -> None:
    """A class that appears by a canary, and the arms of an experiment, are counted from 0."""
    told = Told()
    arms = Rollout(RolloutMode.AB, arms=(Arm("short", 0.5), Arm("long", 0.5)))
    written = Policy(
        "new", (RequestClass("fresh", objectives=Objectives(), rollout=arms), *OLD.classes), OLD.deployments
    )
    told.metrics.adopt(OLD, written)
    assert told.value("router_slo_good_total", request_class="fresh", objective="all") == 0
    assert told.value("router_arm_requests_total", request_class="fresh", arm="short", slo_met="true") == 0
    assert told.value("router_rollout_state", request_class="fresh", state="stable") == 1
