"""The doors: connections, deliveries, what was refused there, and the journal behind the queue."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from router.domain.events import IngressEvent
from router.policy.policy import Policy
from router.telemetry.labels import Words
from router.telemetry.series import Counter, Gauge, Watched
from router.telemetry.sink import Handlers

HAPPENINGS = {
    "mqtt": (
        "connected",
        "disconnected",
        "redelivered",
        "duplicate",
        "conflict",
        "dead_letter",
        "refused",
        "paused",
        "resumed",
        "replied",
        "recovered",
        "cut_call",
        "invalid",
        "feedback_unknown",
        "verdict_missing",
        "verdict_unknown",
        "cancelled",
        "cancel_early",
        "cancel_unknown",
        "journal_failed",
        "client_gone",
    ),
    "mqtt_replies": ("connected", "disconnected"),
    "http": ("replied", "client_gone", "invalid"),
}
SWITCHES = {
    "connected": ("connected", 1.0),
    "disconnected": ("connected", 0.0),
    "paused": ("paused", 1.0),
    "resumed": ("paused", 0.0),
}


class IngressMetrics:
    """Happenings by door, connection state, calls cut by a crash, the journal's backlog."""

    name = "metrics_ingress"

    def __init__(self, registry: CollectorRegistry, policy: Policy) -> None:
        self._registry, self._sources, self._whats = registry, Words(), Words()
        self._events = Counter(registry, "router_ingress_events", "Happenings at the door.", ("source", "what"))
        self._state = {
            "connected": Gauge(registry, "router_ingress_connected", "1 while connected.", ("source",)),
            "paused": Gauge(registry, "router_ingress_paused", "1 while reading is paused.", ("source",)),
        }
        self._cut = Counter(registry, "router_cut_calls", "Calls that a crash of the router cut off.")
        self.create(policy)

    def create(self, _policy: Policy) -> None:
        """Series at 0; nothing here depends on the policy."""
        for source, whats in HAPPENINGS.items():
            self._events.create(product((source,), whats))
        self._state["paused"].create((("mqtt",),))
        self._cut.create(((),))

    def watch_journal(self, backlog: Callable[[], int]) -> None:
        """Show how many journal writes wait for the disk, read at each scrape."""
        Watched(
            self._registry,
            lambda: GaugeMetricFamily("router_journal_backlog_writes", "Writes waiting.", labels=()),
            lambda: {(): backlog()},
        )

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {IngressEvent: self._on_ingress}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_ingress(self, event: IngressEvent) -> None:
        source = self._sources[event.source]
        self._events.add((source, self._whats[event.what]), event.count)
        if event.what == "cut_call":
            self._cut.add((), event.count)
        switch = SWITCHES.get(event.what)
        if switch is not None:
            self._state[switch[0]].put((source,), switch[1])
