"""Who waits in the router and for how long, by class and by tenant. Tenants that neither the policy nor the settings
name are `other` together: how many of them wait, and the longest wait of any."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.events import QueueObserved
from router.policy.policy import Policy
from router.telemetry.labels import OTHER, Allowed, Vocabulary
from router.telemetry.series import Gauge


class Queued:
    """Depth and age, by class and by tenant."""

    def __init__(self, registry: CollectorRegistry, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        by_class, by_tenant = ("request_class",), ("tenant",)
        self._classes = (
            Gauge(registry, "router_queue_class_requests", "Requests waiting for room, by class.", by_class),
            Gauge(registry, "router_queue_class_oldest_seconds", "Longest wait for room, by class.", by_class),
        )
        self._tenants = (
            Gauge(registry, "router_queue_tenant_requests", "Requests waiting for room, by tenant.", by_tenant),
            Gauge(registry, "router_queue_tenant_oldest_seconds", "Longest wait for room, by tenant.", by_tenant),
        )

    def create(self, policy: Policy) -> None:
        """Series at 0 for every class, every tenant that may be a label, and all others together."""
        for gauge in self._classes:
            gauge.create((self._words.classes[c.name],) for c in policy.classes)
        for gauge in self._tenants:
            gauge.create((tenant,) for tenant in (*self._words.tenants, OTHER))

    def put(self, event: QueueObserved) -> None:
        """How it stands at a tick."""
        _put(self._classes, self._words.classes, event.classes, event.waiting)
        _put(self._tenants, self._words.tenants, event.tenants, event.waiting)


def _put(gauges: tuple[Gauge, Gauge], names: Allowed, rows: tuple[tuple[str, int, float], ...], waiting: int) -> None:
    """Those of whom nothing is said have nobody waiting; who is not told by name is among the others."""
    counts: dict[str, int] = {}
    ages: dict[str, float] = {}
    for name, count, oldest_s in rows:
        label = names[name]
        counts[label] = counts.get(label, 0) + count
        ages[label] = max(ages.get(label, 0.0), oldest_s)
    if rest := waiting - sum(count for label, count in counts.items() if label != OTHER):
        counts[OTHER] = rest
    depth, age = gauges
    for label in {labels[0] for labels in depth.series()} | set(counts):
        depth.put((label,), counts.get(label, 0))
        age.put((label,), ages.get(label, 0.0))
