"""Metrics of reserved capacity, lanes and replicas: there before they are needed, and right."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from bench.traffic import deployment, policy
from router.domain.control.capacity import GroupObserved, LaneChanged, ReserveObserved, SpillChanged, WantedReplicas
from router.domain.deployment import DeploymentName, Kind, Lane, TokenQuota
from router.domain.events import Event, PriceUpdate
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

BASE = policy(classes=2, deployments=2)
RESERVED = replace(
    deployment(0), name=DeploymentName("paid"), kind=Kind.PROVISIONED, quota=TokenQuota(1.0, 1.0), lane=Lane.PROVISIONED
)
POLICY = replace(
    BASE,
    deployments=(*BASE.deployments, RESERVED),
    classes=(replace(BASE.classes[0], patience_s=5.0), *BASE.classes[1:]),
)


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sink = Sink(Metrics(POLICY, self.registry).subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self._sink.emit(event)
        self._sink.drain_all()
        assert not any(self._sink.failures.values())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_series_exist_for_what_is_reserved_grouped_and_patient_and_for_nothing_else() -> None:
    """At 0 from the start; wanted begins with what is listed."""
    told = Told()
    assert told.value("router_reserved_wasted_seconds_total", deployment="paid") == 0.0
    assert told.value("router_reserved_wasted_seconds_total", deployment="small-0") is None
    assert told.value("router_wanted_replicas", group="small-0") == 1.0
    assert told.value("router_wanted_replicas", group="paid") is None
    lanes = {"old": "provisioned", "new": "default", "reason": "slack"}
    assert told.value("router_lane_changes_total", request_class="class-0", **lanes) == 0.0
    assert told.value("router_lane_changes_total", request_class="class-1", **lanes) is None
    assert told.value("router_deployment_lane", deployment="paid", lane="provisioned") == 1.0


def test_an_account_adds_what_was_used_and_what_was_wasted() -> None:
    """Counters grow, shares are those of the last account; an unknown size leaves the share alone."""
    told = Told()
    told.tell(
        ReserveObserved("paid", 600.0, 30.0, 60.0, 0.6, 0.3, 0.4 / 60.0, 0.1),
        ReserveObserved("paid", 100.0, 10.0, 60.0, None, None, 0.0, 0.0),
    )
    assert told.value("router_reserved_tokens_total", deployment="paid", resource="input") == 700.0
    assert told.value("router_reserved_utilisation_ratio", deployment="paid", resource="output") == 0.3
    assert told.value("router_reserved_wasted_seconds_total", deployment="paid") == pytest.approx(24.0)
    assert told.value("router_reserved_wasted_usd_total", deployment="paid") == 0.1


def test_spilling_and_bid_prices_are_seen_by_deployment() -> None:
    """The state in force and its changes; a price of tokens is one of a deployment."""
    told = Told()
    told.tell(SpillChanged("paid", "filling", "spilling", "x"), PriceUpdate("input_tokens", "paid", 0.0, 1.5, "x"))
    assert told.value("router_reserved_spilling", deployment="paid") == 1.0
    assert told.value("router_reserved_spill_changes_total", deployment="paid", state="spilling") == 1.0
    assert told.value("router_price", kind="input_tokens", subject="paid") == 1.5
    told.tell(SpillChanged("paid", "spilling", "filling", "x"))
    assert told.value("router_reserved_spilling", deployment="paid") == 0.0


def test_replicas_that_are_wanted_offered_and_listed() -> None:
    """As of the last tick; the moves are counted by direction."""
    told = Told()
    told.tell(GroupObserved("small-0", 3, 2.4, 1), WantedReplicas("small-0", 1, 3, "x"))
    assert told.value("router_wanted_replicas", group="small-0") == 3.0
    assert told.value("router_offered_replicas", group="small-0") == 2.4
    assert told.value("router_listed_replicas", group="small-0") == 1.0
    assert told.value("router_wanted_replicas_changes_total", group="small-0", direction="up") == 1.0


def test_lanes_are_counted_by_where_from_where_to_and_why() -> None:
    """With the time that was spent waiting."""
    told = Told()
    told.tell(LaneChanged("class-0", "provisioned", "default", "small-0", "slack", 2.5, None))
    lanes = {"old": "provisioned", "new": "default", "reason": "slack"}
    assert told.value("router_lane_changes_total", request_class="class-0", **lanes) == 1.0
    assert told.value("router_lane_kept_seconds_total", request_class="class-0") == 2.5
