"""What the metrics count when it happens."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from bench.traffic import deployment, policy, request_events, tick_events, trouble_events
from router.domain.events import (
    AttemptEnded,
    DecisionMade,
    Event,
    FeedbackReceived,
    IngressEvent,
    PolicyApplied,
    PolicyRejected,
    RequestRejected,
)
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.telemetry.sink import Sink
from tests.unit.told_metrics import POLICY, Told, ended


def test_decisions_show_what_was_expected_and_what_was_explored() -> None:
    """Sums of what picks were predicted to do, the constraint that decided, and picks that were not the best."""
    told, rng = Told(policy(classes=1, deployments=3)), Random(1)
    made = [
        event.decision
        for n in range(41)
        for event in request_events(n, rng, policy(classes=1, deployments=3))
        if isinstance(event, DecisionMade)
    ]
    told.tell(*map(DecisionMade, made))
    picks = [next(c for c in d.candidates if c.deployment == d.chosen) for d in made]
    explored = sum(p.score < max(c.score for c in d.candidates) for p, d in zip(picks, made, strict=True))
    assert 0 < explored < 41
    expected = {
        "router_explorations_total": explored,
        "router_predicted_slo_good_total": sum(p.terms.p_slo for p in picks),
        "router_predicted_adequate_total": sum(p.terms.p_adequate for p in picks),
        "router_predicted_spend_usd_total": sum(p.terms.cost_usd for p in picks),
    }
    assert {name: told.value(name, request_class="class-0") for name in expected} == pytest.approx(expected)
    assert told.total("router_decisions_total") == 41
    assert told.value("router_decision_bindings_total", request_class="class-0", binding="cost") == 6
    assert told.value("router_exclusions_total", deployment="small-2", code="unhealthy") == 41


def test_tokens_and_retries_are_counted() -> None:
    """Tokens by deployment and direction; calls after the first one by class."""
    told = Told()
    told.tell(ended(attempts=3, input_tokens=11, output_tokens=7), ended(attempts=1, input_tokens=1, output_tokens=2))
    assert told.value("router_tokens_total", deployment="small-0", direction="input") == 12
    assert told.value("router_tokens_total", deployment="small-0", direction="output") == 9
    assert told.value("router_retries_total", request_class="class-0") == 2


def test_failed_requests_have_no_genai_latency() -> None:
    """The conventions measure the first token of successful answers."""
    told = Told()
    told.tell(ended(status="failed", code="throttled"))
    assert told.total("gen_ai_server_time_to_first_token_seconds_count") == 0


def test_spend_stands_beside_always_large() -> None:
    """Money is counted by class and deployment, and what the large model would have cost beside it."""
    told = Told()
    told.tell(ended(cost_usd=0.1, baseline_cost_usd=0.5), ended(cost_usd=0.2, baseline_cost_usd=0.5))
    spent = told.value("router_spend_usd_total", request_class="class-0", deployment="small-0")
    assert spent == pytest.approx(0.3)
    assert told.value("router_baseline_spend_usd_total", request_class="class-0") == 1.0


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        (
            ended(met=(("ttft", True), ("tpot", False)), slo_met=False),
            {"all": 0, "availability": 1, "ttft": 1, "tpot": 0},
        ),
        (ended(status="failed", code="throttled", met=(), slo_met=False), {"all": 0, "availability": 0}),
        (ended(status="cancelled", met=(("ttft", False),), slo_met=False), {}),
        (ended(status="failed", code="client_gone", met=(("ttft", False),), slo_met=False), {}),
        (
            RequestRejected(ended().request, "class-0", "queue_full", "admission", 1.0),
            {"all": 0, "availability": 0},
        ),
    ],
)
def test_promises_count_what_they_apply_to(event: Event, kept: dict[str, int]) -> None:
    """Late is not unavailable, refused keeps no promise, and a client that left is nobody's fault."""
    told = Told()
    told.tell(event)
    for objective in ("all", "availability", "ttft", "tpot"):
        labels = {"request_class": "class-0", "objective": objective}
        assert told.value("router_slo_requests_total", **labels) == (objective in kept)
        assert told.value("router_slo_good_total", **labels) == kept.get(objective, 0)


def test_refusals_are_told_apart_by_status_and_code() -> None:
    """Rejected, expired and evicted are three things, each with its code."""
    told = Told()
    request = ended().request
    for code, status in (("queue_full", "rejected"), ("deadline_exceeded", "expired"), ("evicted", "evicted")):
        told.tell(RequestRejected(request, "class-0", code, "queue", 1.0))
        labels = {"request_class": "class-0", "deployment": "none", "tier": "none"}
        assert told.value("router_requests_total", **labels, status=status, code=code) == 1


def test_phases_add_up_to_the_call() -> None:
    """The network is taken out of the first token, so that phases can be stacked."""
    told = Told()
    attempt = next(e for e in request_events(2, Random(1), POLICY) if isinstance(e, AttemptEnded))
    told.tell(msgspec.structs.replace(attempt, batch_wait_s=0.5, network_s=0.25, first_token_s=1.0, decode_s=4.0))
    sums = {
        phase: told.total("router_phase_seconds_sum", phase=phase)
        for phase in ("batch_wait", "network", "first_token", "decode")
    }
    assert sums == {"batch_wait": 0.5, "network": 0.25, "first_token": 0.75, "decode": 4.0}


def test_all_seven_phases_are_measured() -> None:
    """One request shows in every phase from ingress to reply."""
    told = Told()
    told.tell(*request_events(2, Random(1), POLICY))
    for phase in ("ingress", "queue", "batch_wait", "network", "first_token", "decode", "reply"):
        assert told.total("router_phase_seconds_count", phase=phase) == 1, phase


def test_feedback_known_and_unknown_are_counted_apart() -> None:
    """An unknown id moves a counter and no quality."""
    told = Told()
    told.tell(FeedbackReceived("d", 0.4, True, "class-0", "model-0"), FeedbackReceived("?", 0.9, False))
    assert told.value("router_feedback_total", known="true") == 1
    assert told.value("router_feedback_total", known="false") == 1
    assert told.total("router_feedback_quality_ratio_sum") == pytest.approx(0.4)


def test_the_policy_in_force_is_told_and_a_bad_edit_shows() -> None:
    """One digest at a time; the last reload is a success until an edit is refused."""
    told = Told()
    assert told.value("router_policy_info", digest=POLICY.digest) == 1
    told.tell(PolicyRejected("bad", ("x",), 5.0))
    assert told.value("router_policy_last_reload_success_ratio") == 0
    told.tell(PolicyApplied(POLICY.digest, "new", (), 6.0))
    told.metrics.adopt(replace(POLICY, digest="new"))
    assert told.value("router_policy_info", digest="new") == 1
    assert told.value("router_policy_info", digest=POLICY.digest) is None
    assert told.value("router_policy_last_reload_success_ratio") == 1
    assert told.value("router_policy_last_reload_timestamp_seconds") == 6.0


def test_a_new_policy_gets_its_series_and_old_names_stay_countable() -> None:
    """After a swap new classes start at 0, and requests begun under the old one still count as theirs."""
    told = Told()
    told.metrics.adopt(Policy("new", (RequestClass("fresh"),), (deployment(5),)))
    labels = {"deployment": "large-5", "tier": "large", "status": "completed", "code": "none"}
    assert told.value("router_requests_total", request_class="fresh", **labels) == 0
    told.tell(ended())
    assert told.total("router_requests_total", request_class="class-0", deployment="small-0") == 1
    assert told.value("router_slo_target_ratio", request_class="class-0", objective="ttft") is None


def test_ticks_and_trouble_show() -> None:
    """Load, limits, prices, health, queue, and what goes wrong at the doors have their figures."""
    told = Told()
    told.tell(*tick_events(3, POLICY), *trouble_events(3, POLICY))
    assert told.value("router_in_flight_attempts", deployment="small-0") == 3
    assert told.value("router_limit_attempts", deployment="large-1") == 17
    assert told.value("router_price", kind="capacity", subject="small-0") == pytest.approx(0.3)
    assert told.value("router_price", kind="usd", subject="none") == pytest.approx(1.2)
    assert told.value("router_health", deployment="small-0", state="open") == 1
    assert told.value("router_health", deployment="small-0", state="ok") == 0
    assert told.value("router_queue_requests") == 3
    assert told.value("router_cut_calls_total") == 1
    assert told.value("router_ingress_connected", source="mqtt") == 1
    assert told.value("router_attempts_total", deployment="small-0", ending="failed", code="throttled") == 1
    told.tell(IngressEvent("mqtt", "disconnected"))
    assert told.value("router_ingress_connected", source="mqtt") == 0


def test_what_telemetry_itself_loses_is_shown() -> None:
    """Dropped events, broken subscribers, the journal's backlog and the decision log are read at each scrape."""
    told = Told()
    sink = Sink(told.metrics.subscribers, capacity=1)
    told.metrics.watch_sink(sink)
    told.metrics.watch_journal(lambda: 7)
    told.metrics.watch_decision_log(lost=lambda: 2, written=lambda: 40)
    for event in tick_events(1, POLICY):
        sink.emit(event)
    assert told.value("router_telemetry_dropped_total", stage="sink") == sink.dropped > 0
    assert told.value("router_telemetry_waiting_events") == 1
    assert told.value("router_telemetry_failures_total", subscriber="metrics_slo") == 0
    assert told.value("router_journal_backlog_writes") == 7
    assert told.value("router_decision_log_records_total", result="lost") == 2
