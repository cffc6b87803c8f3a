"""Names, series, edges and labels of the metrics: conventions that hold whatever happens."""

from __future__ import annotations

import math
from random import Random

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from bench.traffic import deployment, request_events
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.telemetry.labels import NAMES_MAX, WORDS_MAX, Allowed, Words
from router.telemetry.metrics import render
from router.telemetry.series import Gauge, Histogram
from tests.unit.told_metrics import POLICY, Told, ended


def test_every_name_follows_the_conventions() -> None:
    """Names are router_* or the GenAI ones, in base units, and say what they are."""
    told = Told()
    for family in told.registry.collect():
        if family.name.startswith("process_"):
            continue
        assert family.name.startswith(("router_", "gen_ai_")), family.name
        assert family.documentation
        assert not family.name.endswith(("_ms", "_millis", "_kb", "_percent")), family.name
        if family.name.startswith("router_") and family.type == "histogram":
            assert family.name.endswith(("_seconds", "_ratio", "_size")), family.name


def test_the_text_parses_and_says_its_type() -> None:
    """`render` gives the Prometheus text format, which the library's own parser reads back."""
    told = Told()
    told.tell(*request_events(1, Random(1), POLICY))
    body, content_type = render(told.registry)
    assert content_type.startswith("text/plain")
    assert {family.name for family in text_string_to_metric_families(body.decode())} >= {
        "router_requests",
        "router_ttft_seconds",
        "gen_ai_client_token_usage",
    }


def test_series_exist_at_zero_before_anything_happens() -> None:
    """The first increase of a series of the policy is an increase from 0, which rate() sees."""
    told = Told()
    labels = {"request_class": "class-1", "deployment": "large-1"}
    before = told.value("router_requests_total", **labels, tier="large", status="completed", code="none")
    assert before == 0.0
    assert told.value("router_slo_good_total", request_class="class-0", objective="ttft") == 0.0
    assert told.value("router_spend_usd_total", **labels) == 0.0
    assert told.value("router_attempts_total", deployment="small-0", ending="failed", code="throttled") == 0.0
    assert told.value("router_ttft_seconds_count", request_class="class-0", tier="large") == 0.0
    assert told.value("router_ingress_events_total", source="mqtt", what="dead_letter") == 0.0


def test_known_traffic_makes_no_series_that_was_not_there() -> None:
    """Ordinary requests only move series that existed from the start."""
    told = Told()

    def names() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {(s.name, tuple(sorted(s.labels.items()))) for f in told.registry.collect() for s in f.samples}

    before = names()
    rng = Random(1)
    told.tell(*(event for n in range(40) for event in request_events(n, rng, POLICY)))
    assert names() == before


def test_there_is_an_edge_on_every_threshold_promised() -> None:
    """A good/total ratio can be read off the histogram at exactly the promised bound."""
    odd = RequestClass(
        "odd",
        objectives=Objectives(
            ttft=Objective(Indicator.TTFT, 0.123),
            tpot=Objective(Indicator.TPOT, 0.0456),
            e2e=Objective(Indicator.E2E, 7.89),
        ),
    )
    told = Told(Policy("d", (odd,), (deployment(0),)))
    for name, edge in (("ttft", "0.123"), ("tpot", "0.0456"), ("e2e", "7.89")):
        assert told.value(f"router_{name}_seconds_bucket", request_class="odd", tier="small", le=edge) == 0.0


def test_a_value_on_an_edge_counts_as_within_it() -> None:
    """Buckets are cumulative and inclusive, as Prometheus defines `le`."""
    registry = CollectorRegistry()
    histogram = Histogram(registry, "h_seconds", "h", edges=(0.1, 0.5))
    for value in (0.1, 0.3, 0.5, 9.0, math.nan):
        histogram.observe((), value)
    buckets = [registry.get_sample_value("h_seconds_bucket", {"le": le}) for le in ("0.1", "0.5", "+Inf")]
    assert buckets == [1.0, 3.0, 4.0]
    assert registry.get_sample_value("h_seconds_count") == 4.0
    assert registry.get_sample_value("h_seconds_sum") == pytest.approx(9.9)


def test_strangers_become_other_and_cannot_make_series() -> None:
    """A thousand invented class and deployment names end in one series."""
    told = Told()
    told.tell(*(ended(request_class=f"made-up-{n}", deployment=f"nowhere-{n}") for n in range(1000)))
    assert told.total("router_requests_total", request_class="other", deployment="other") == 1000
    series = sum(len(family.samples) for family in told.registry.collect())
    told.tell(*(ended(request_class=f"again-{n}", code=f"code-{n}") for n in range(1000)))
    assert sum(len(family.samples) for family in told.registry.collect()) - series <= 60


def test_allow_lists_and_words_are_bounded() -> None:
    """Neither a policy nor the code can grow a label without end."""
    allowed, words = Allowed(), Words()
    allowed.allow(f"name-{n}" for n in range(10 * NAMES_MAX))
    for n in range(10 * WORDS_MAX):
        assert words[f"word-{n}"] == (f"word-{n}" if n < WORDS_MAX else "other")
    assert len(allowed) == NAMES_MAX
    assert len(words) == WORDS_MAX
    assert (allowed[""], words[""], allowed["stranger"]) == ("none", "none", "other")


def test_tenants_are_labels_only_when_allowed() -> None:
    """Without an allow-list no tenant is seen; with one, only those on it."""
    request = msgspec.structs.replace(ended().request, tenant="acme")
    silent, told = Told(), Told(tenants=("acme",))
    for each in (silent, told):
        each.tell(ended(request=request, cost_usd=0.25), ended())
    assert b"acme" not in render(silent.registry)[0]
    assert told.value("router_tenant_spend_usd_total", tenant="acme") == 0.25
    assert told.value("router_tenant_requests_total", tenant="acme", status="completed") == 1
    assert b'tenant="default"' not in render(told.registry)[0]


def test_genai_names_carry_their_attributes_and_edges() -> None:
    """A second view for dashboards that know OpenTelemetry's GenAI names."""
    told = Told()
    rng = Random(1)
    told.tell(*(event for n in range(20) for event in request_events(n, rng, POLICY)))
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "model-0",
    }
    calls = told.total("router_attempts_total", deployment="small-0")
    assert calls > 0
    assert told.value("gen_ai_client_token_usage_count", **labels, gen_ai_token_type="output") == calls
    assert told.value("gen_ai_client_operation_duration_seconds_count", **labels, error_type="") == calls
    assert told.value("gen_ai_server_time_to_first_token_seconds_count", **labels) == calls
    assert told.value("gen_ai_server_time_per_output_token_seconds_bucket", **labels, le="0.025") is not None
    assert told.value("gen_ai_client_token_usage_bucket", **labels, gen_ai_token_type="input", le="6.7108864e+07")


def test_two_families_of_one_name_are_refused() -> None:
    """A metric defined twice is found when it is made, not on a dashboard."""
    registry = CollectorRegistry()
    Gauge(registry, "router_twice", "a")
    with pytest.raises(ValueError, match="router_twice"):
        Gauge(registry, "router_twice", "b")
