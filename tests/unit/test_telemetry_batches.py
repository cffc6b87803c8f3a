"""Batches as metrics: sizes by reason, waits, times, who was late, and whether the prediction held."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.control.batches import BatchEnded, Start
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics.deployments import BatchMetrics


def deployment(name: str, kind: Kind) -> Deployment:
    return Deployment(DeploymentName(name), name, "m", Tier.SMALL, kind, Address("x", ""), Price(0.0, 0.0))


POLICY = Policy("p", (RequestClass("all"),), (deployment("scorer", Kind.BATCH), deployment("chat", Kind.CONTINUOUS)))


def test_a_batch_is_counted_by_size_reason_wait_and_time() -> None:
    """Every series of a batch endpoint exists from the start; a failed batch says nothing about predictions."""
    registry = CollectorRegistry()
    metrics = BatchMetrics(registry, POLICY, Vocabulary(POLICY))
    on_batch = metrics.handlers()[BatchEnded]

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"deployment": "scorer", **labels})

    for reason in Start:
        assert value("router_batch_size_count", reason=reason.value) == 0.0
    assert registry.get_sample_value("router_batch_seconds_count", {"deployment": "chat"}) is None
    on_batch(BatchEnded("scorer", 12, Start.SPARSE, 0.18, 0.054, 0.054, 0.055, 3, 0))
    on_batch(BatchEnded("scorer", 20, Start.SPARSE, 0.0, 0.2, 0.07, 0.071, 0, 2))
    on_batch(BatchEnded("scorer", 5, Start.SPLIT, 0.0, 0.01, 0.04, 0.041, 0, 0, "backend_error"))
    assert value("router_batch_size_sum", reason="sparse") == 32.0
    assert value("router_batch_size_bucket", reason="sparse", le="16.0") == 1.0
    assert value("router_batch_size_count", reason="split") == 1.0
    assert value("router_batch_wait_seconds_sum") == 0.18
    assert value("router_batch_seconds_count") == 3.0
    assert value("router_batch_late_items_total", fate="dropped") == 3.0
    assert value("router_batch_late_items_total", fate="served") == 2.0
    assert value("router_batch_within_prediction_total", within="yes") == 1.0
    assert value("router_batch_within_prediction_total", within="no") == 1.0
