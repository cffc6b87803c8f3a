"""The load that servers tell of themselves, beside what the router sent them."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.control.servers import ServerAsked
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary
from router.telemetry.series import Counter, Gauge, Labels
from router.telemetry.sink import Handlers
from router.wire.server_metrics import Scrape

_RESULTS = {result.value: result.value for result in Scrape}


class ServerMetrics:
    """By deployment, for those whose server is asked. Of one that does not answer no figures are shown: they would be
    old, and 0 would be a lie."""

    name = "metrics_servers"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        one = ("deployment",)
        self._asked = Counter(
            registry, "router_server_scrapes", "Times its server was asked for its load.", ("deployment", "result")
        )
        self._up = Gauge(registry, "router_server_up", "1 where its server told its load when last asked.", one)
        self._at = Gauge(
            registry, "router_server_load_timestamp_seconds", "When its server was asked for what it last told.", one
        )
        self._sequences = Gauge(
            registry,
            "router_server_sequences",
            "Sequences in the batch and in the queue of its server, whoever sent them.",
            ("deployment", "state"),
        )
        self._kv = Gauge(registry, "router_server_kv_ratio", "Used share of the KV cache, as its server tells.", one)
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for what is asked; those of what is asked no more are forgotten."""
        names = {self._words.deployments[d.name] for d in policy.deployments if d.telemetry is not None}
        self._asked.create(product(sorted(names), _RESULTS))

        def is_gone(labels: Labels) -> bool:
            return labels[0] not in names

        for gauge in (self._up, self._at, self._sequences, self._kv):
            gauge.forget(is_gone)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {ServerAsked: self._on_asked}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_asked(self, event: ServerAsked) -> None:
        name = self._words.deployments[event.deployment]
        self._asked.add((name, _RESULTS[event.result]))
        self._up.put((name,), float(event.running is not None))
        if event.kv_ratio is None:
            self._kv.forget(lambda labels: labels[0] == name)
        if event.running is None or event.waiting is None:
            self._sequences.forget(lambda labels: labels[0] == name)
            return
        self._at.put((name,), event.at)
        self._sequences.put((name, "running"), event.running)
        self._sequences.put((name, "waiting"), event.waiting)
        if event.kv_ratio is not None:
            self._kv.put((name,), event.kv_ratio)
