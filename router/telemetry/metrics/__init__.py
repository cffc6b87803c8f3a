"""Every metric of the router over one registry, and the text that `/metrics` answers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics.control import ControlMetrics
from router.telemetry.metrics.deployments import DeploymentMetrics
from router.telemetry.metrics.genai import GenAiMetrics
from router.telemetry.metrics.ingress import IngressMetrics
from router.telemetry.metrics.requests import RequestMetrics
from router.telemetry.metrics.slo import SloMetrics
from router.telemetry.series import Gauge, Labels, Watched
from router.telemetry.sink import Sink, Subscriber


class Metrics:
    """The metric groups, each a subscriber of its own so that one that breaks leaves the others whole.

    `tenants` are those that may be a label. Histogram edges are fixed by the policy given here; `adopt` gives
    the names of a later policy their series.
    """

    def __init__(self, policy: Policy, registry: CollectorRegistry, *, tenants: Iterable[str] = ()) -> None:
        self.registry = registry
        self._vocabulary = Vocabulary(policy, tenants=tenants)
        self._ingress = IngressMetrics(registry, policy)
        self._groups = (
            RequestMetrics(registry, policy, self._vocabulary),
            SloMetrics(registry, policy, self._vocabulary),
            DeploymentMetrics(registry, policy, self._vocabulary),
            ControlMetrics(registry, policy, self._vocabulary),
            GenAiMetrics(registry, policy, self._vocabulary),
            self._ingress,
        )
        build = Gauge(registry, "router_build_info", "What is running.", ("version", "python"))
        build.put((_version(), platform.python_version()), 1.0)
        ProcessCollector(registry=registry)

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """What the sink is given."""
        return self._groups

    def adopt(self, policy: Policy) -> None:
        """Allow and pre-create what a new policy names; to be called when it is put in force."""
        self._vocabulary.adopt(policy)
        for group in self._groups:
            group.create(policy)

    def watch_journal(self, backlog: Callable[[], int]) -> None:
        """Show the journal's backlog."""
        self._ingress.watch_journal(backlog)

    def watch_sink(self, sink: Sink) -> None:
        """Show what telemetry itself lost: events dropped, subscribers that failed, events waiting."""

        def failures() -> dict[Labels, float]:
            return {(name,): float(count) for name, count in sink.failures.items()}

        Watched(self.registry, _dropped, lambda: {("sink",): float(sink.dropped)})
        Watched(self.registry, _failures, failures)
        Watched(self.registry, _waiting, lambda: {(): float(sink.waiting)})

    def watch_decision_log(self, lost: Callable[[], int], written: Callable[[], int]) -> None:
        """Show what the decision log wrote, and what it lost to a full queue or a full disk."""
        Watched(self.registry, _records, lambda: {("written",): written(), ("lost",): lost()})


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """The body and the content type of `/metrics`."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _dropped() -> CounterMetricFamily:
    return CounterMetricFamily("router_telemetry_dropped", "Events not told to anyone.", labels=("stage",))


def _failures() -> CounterMetricFamily:
    return CounterMetricFamily("router_telemetry_failures", "Events a subscriber lost.", labels=("subscriber",))


def _waiting() -> GaugeMetricFamily:
    return GaugeMetricFamily("router_telemetry_waiting_events", "Events not yet handed out.", labels=())


def _records() -> CounterMetricFamily:
    return CounterMetricFamily("router_decision_log_records", "Decision log records.", labels=("result",))


def _version() -> str:
    try:
        return version("adaptive-model-router")
    except PackageNotFoundError:
        return "unknown"
