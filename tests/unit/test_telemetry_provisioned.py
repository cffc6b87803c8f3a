"""Provisioned throughput in the metrics, in the rules, and in the circuit of its deployment."""

from __future__ import annotations

import promql_parser
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from bench.traffic import deployment, policy
from router.control.circuit import Circuit
from router.domain.control.provisioned import (
    ControlPlaneHeard,
    ProvisionedChanged,
    ProvisionedObserved,
    Reconciled,
    Tally,
)
from router.domain.deployment import Address, DeploymentName, Kind
from router.domain.events import Event
from router.domain.view import Health
from router.policy.rules.document import rules_document
from router.policy.rules.provisioned import provisioned_group
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

BASE = policy(classes=1, deployments=1)
RESERVED = replace(
    deployment(0), name=DeploymentName("floor"), kind=Kind.PROVISIONED, address=Address("bedrock", "arn:x")
)
POLICY = replace(BASE, deployments=(*BASE.deployments, RESERVED))


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(POLICY, self.registry)
        self._sink = Sink(self.metrics.subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self._sink.emit(event)
        self._sink.drain_all()
        assert not any(self._sink.failures.values())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_one_status_holds_at_a_time_and_the_end_of_the_commitment_is_told() -> None:
    """Without a commitment there is no end to alert on."""
    told = Told()
    assert told.value("router_commitment_end_timestamp_seconds", deployment="floor") is None
    told.tell(ProvisionedObserved("floor", "Creating", 0, 2, 1.9e9), ProvisionedChanged("floor", "", "Creating", "x"))
    told.tell(ProvisionedObserved("floor", "InService", 2, 2, 1.9e9))
    assert told.value("router_provisioned_status", deployment="floor", status="Creating") == 0.0
    assert told.value("router_provisioned_status", deployment="floor", status="InService") == 1.0
    assert told.value("router_provisioned_units", deployment="floor") == 2.0
    assert told.value("router_provisioned_changes_total", deployment="floor", status="Creating") == 1.0
    assert told.value("router_commitment_end_timestamp_seconds", deployment="floor") == 1.9e9
    told.tell(ProvisionedObserved("floor", "InService", 2, 2))
    assert told.value("router_commitment_end_timestamp_seconds", deployment="floor") is None


def test_both_counts_and_their_gap_are_shown() -> None:
    """AWS counted four calls and we three: a quarter of them are somebody else's."""
    told = Told()
    theirs, ours = Tally(4.0, 1.0, 400.0, 160.0, 1.9, 0.45), Tally(3.0, 1.0, 300.0, 120.0, 2.0)
    told.tell(Reconciled(("floor",), "arn:x", 600.0, 1.8e9, theirs, ours, 5e3))
    assert told.value("router_reconciled_calls", deployment="floor", by="aws") == 4.0
    assert told.value("router_reconciled_calls", deployment="floor", by="router") == 3.0
    assert told.value("router_reconciled_gap_ratio", deployment="floor") == 0.25
    assert told.value("router_reconciled_ttft_seconds", deployment="floor", by="aws") == 0.45
    assert told.value("router_reconciled_ttft_seconds", deployment="floor", by="router") is None
    assert told.value("router_reconciled_quota_tokens_per_min", deployment="floor") == 5e3


def test_what_is_provisioned_no_more_leaves_no_series() -> None:
    """Else its commitment would be alerted on for ever."""
    told = Told()
    told.tell(ProvisionedObserved("floor", "InService", 2, 2, 1.9e9))
    told.metrics.adopt(BASE)
    assert told.value("router_commitment_end_timestamp_seconds", deployment="floor") is None
    assert told.value("router_provisioned_status", deployment="floor", status="InService") is None


def test_a_silent_control_plane_is_shown() -> None:
    """By service and region, until it answers again."""
    told = Told()
    told.tell(ControlPlaneHeard("bedrock", "us-east-1", False, "no route"))
    assert told.value("router_aws_control_up", service="bedrock", region="us-east-1") == 0.0
    told.tell(ControlPlaneHeard("bedrock", "us-east-1", True, "it answers again"))
    assert told.value("router_aws_control_up", service="bedrock", region="us-east-1") == 1.0


@pytest.mark.parametrize(
    ("theirs", "ours", "gap"), [(4.0, 3.0, 0.25), (3.0, 4.0, -0.25), (0.0, 0.0, 0.0), (5.0, 0.0, 1.0)]
)
def test_the_gap_is_a_share_of_the_larger_count(theirs: float, ours: float, gap: float) -> None:
    """Between -1 and 1, and 0 where nobody called."""
    assert Reconciled(("d",), "m", 60.0, 0.0, Tally(theirs), Tally(ours)).gap_ratio == gap


def test_tallies_add_up_and_averages_weigh_by_calls() -> None:
    """An average that one side has not measured is the other's."""
    both = Tally(1.0, 0.0, 10.0, 1.0, 3.0, None) + Tally(3.0, 1.0, 30.0, 3.0, 1.0, 0.5)
    assert both == Tally(4.0, 1.0, 40.0, 4.0, 1.5, 0.5)


def test_rules_are_written_only_where_something_is_provisioned_on_bedrock() -> None:
    """A commitment that ends within 7 days is a ticket."""
    assert "RouterCommitmentEnds" not in rules_document(BASE)
    assert "router_commitment_end_timestamp_seconds - time() < 604800" in rules_document(POLICY)
    for rule in provisioned_group().rules:
        assert promql_parser.parse(rule.expr) is not None


def test_what_is_withheld_stays_so_whatever_calls_in_flight_tell() -> None:
    """A success or a failure of a call that was under way neither opens nor explains it; released, one call probes."""
    circuit = Circuit()
    circuit.on_sent("a", now=0.0)
    circuit.withhold("its provisioned throughput is Creating")
    circuit.on_alive("a")
    circuit.on_failed("b", "throttled", None, now=1.0)
    assert circuit.blocked(now=1e6) == "its provisioned throughput is Creating"
    circuit.release("in service", now=1e6)
    assert circuit.blocked(now=1e6) is None
    circuit.on_sent("probe", now=1e6)
    assert circuit.blocked(now=1e6) == "probing"
    circuit.on_alive("probe")
    assert circuit.health is Health.OK
    assert [new for _, new, _ in circuit.take()] == [Health.OPEN, Health.PROBING, Health.OK]


def test_releasing_what_was_not_withheld_changes_nothing() -> None:
    """A circuit that failures opened keeps its cool-down."""
    circuit = Circuit()
    for n in range(3):
        circuit.on_failed(str(n), "unreachable", None, now=0.0)
    circuit.release("in service", now=0.0)
    assert circuit.blocked(now=0.1) is not None
