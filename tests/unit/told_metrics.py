"""Metrics that are told events, and what they then say."""

from __future__ import annotations

from random import Random

import msgspec
from prometheus_client import CollectorRegistry

from bench.traffic import policy, request_events
from router.domain.events import (
    Event,
    RequestEnded,
)
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics
from router.telemetry.sink import Sink

POLICY = policy(classes=2, deployments=2)


class Told:
    """Metrics behind a sink, with their values by name and labels."""

    def __init__(self, of: Policy = POLICY, *, tenants: tuple[str, ...] = ()) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(of, self.registry, tenants=tenants)
        self.sink = Sink(self.metrics.subscribers)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.sink.emit(event)
        self.sink.drain_all()
        assert not any(self.sink.failures.values()), self.sink.failures

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def total(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def ended(**changes: object) -> RequestEnded:
    """A request of class-0 that small-0 answered, with some fields changed."""
    event = next(e for e in request_events(1, Random(1), POLICY) if isinstance(e, RequestEnded))
    base: dict[str, object] = {"request_class": "class-0", "deployment": "small-0", "model": "model-0", "tier": "small"}
    return msgspec.structs.replace(event, **{**base, **changes})
