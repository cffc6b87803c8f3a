"""Every metric of the router over one registry, and the text that `/metrics` answers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from router.core.rollouts.status import RolloutStatus
from router.domain.events import Event, PolicyApplied, RolloutChanged
from router.policy.policy import Policy
from router.telemetry.aws.allowance import AllowanceMetrics
from router.telemetry.aws.jobs import JobMetrics
from router.telemetry.aws.provisioned import ProvisionedMetrics
from router.telemetry.capacity import CapacityMetrics
from router.telemetry.fanout.metrics import FanoutMetrics
from router.telemetry.labels import Vocabulary
from router.telemetry.metrics.cascade import CascadeMetrics
from router.telemetry.metrics.control import ControlMetrics
from router.telemetry.metrics.deployments import BatchMetrics, DeploymentMetrics
from router.telemetry.metrics.drift import DriftMetrics
from router.telemetry.metrics.genai import GenAiMetrics
from router.telemetry.metrics.ingress import IngressMetrics
from router.telemetry.metrics.judging import JudgingMetrics
from router.telemetry.metrics.learned import LearnedMetrics
from router.telemetry.metrics.requests import RequestMetrics
from router.telemetry.metrics.rollouts import RolloutMetrics
from router.telemetry.metrics.slo import SloMetrics
from router.telemetry.metrics.treatment import TreatmentMetrics
from router.telemetry.series import Gauge, Labels, Watched
from router.telemetry.servers.metrics import ServerMetrics
from router.telemetry.sink import Sink, Subscriber
from router.telemetry.stability import StabilityMetrics
from router.telemetry.windows import WindowMetrics


class Metrics:
    """The metric groups, each a subscriber of its own so that one that breaks leaves the others whole.

    `tenants` are those that may be a label. A policy that comes later widens what there is: new names get their series
    at 0, new thresholds their histogram edges; the gauges of promises show what is in force.
    """

    name = "metrics_policy"

    def __init__(self, policy: Policy, registry: CollectorRegistry, *, tenants: Iterable[str] = ()) -> None:
        self.registry = registry
        self._vocabulary = Vocabulary(policy, tenants=tenants)
        self._ingress = IngressMetrics(registry, policy)
        self._slo = SloMetrics(registry, policy, self._vocabulary)
        self._rollouts = RolloutMetrics(registry, policy, self._vocabulary)
        self._treatment = TreatmentMetrics(registry, policy, self._vocabulary)
        self._groups = (
            RequestMetrics(registry, policy, self._vocabulary),
            self._slo,
            DeploymentMetrics(registry, policy, self._vocabulary),
            BatchMetrics(registry, policy, self._vocabulary),
            ControlMetrics(registry, policy, self._vocabulary),
            self._rollouts,
            self._treatment,
            CascadeMetrics(registry, policy, self._vocabulary),
            LearnedMetrics(registry, policy),
            DriftMetrics(registry, policy, self._vocabulary),
            CapacityMetrics(registry, policy, self._vocabulary),
            StabilityMetrics(registry, policy, self._vocabulary),
            JudgingMetrics(registry, policy, self._vocabulary),
            GenAiMetrics(registry, policy, self._vocabulary),
            WindowMetrics(registry, policy),
            FanoutMetrics(registry, policy),
            JobMetrics(registry, policy, self._vocabulary),
            AllowanceMetrics(registry, policy, self._vocabulary),
            ProvisionedMetrics(registry, policy, self._vocabulary),
            ServerMetrics(registry, policy, self._vocabulary),
            self._ingress,
        )
        self._read: Callable[[], tuple[Policy, Policy]] | None = None
        build = Gauge(registry, "router_build_info", "What is running.", ("version", "python"))
        build.put((_version(), platform.python_version()), 1.0)
        ProcessCollector(registry=registry)

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """What the sink is given."""
        return (self, *self._groups)

    def handlers(self) -> dict[type[Event], Callable[..., None]]:
        """After what may change the policy in force; told before the groups are."""
        return {PolicyApplied: self._on_change, RolloutChanged: self._on_change}

    def flush(self) -> None:
        """Nothing is gathered."""

    def follow(
        self,
        read: Callable[[], tuple[Policy, Policy]],
        *,
        rollouts: Iterable[RolloutStatus] = (),
        ceilings: Mapping[tuple[str, str], int] = MappingProxyType({}),
    ) -> None:
        """Adopt what `read` gives (the policy in force, and as written) now and after each change. `rollouts` and
        `ceilings` (tokens by class and model) are how things stand at the start, of which no event tells."""
        self._read = read
        self.adopt(*read())
        self._rollouts.resume(rollouts)
        self._treatment.resume(ceilings)

    def adopt(self, in_force: Policy, written: Policy | None = None) -> None:
        """Allow and pre-create what these policies name. `written` has the edits that are not in force besides."""
        written = written or in_force
        for policy in (written, in_force) if written is not in_force else (in_force,):
            self._vocabulary.adopt(policy)
            for group in self._groups:
                group.create(policy)
        self._slo.show_edits(in_force, written)

    def _on_change(self, _: PolicyApplied | RolloutChanged) -> None:
        if self._read is not None:
            self.adopt(*self._read())

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
