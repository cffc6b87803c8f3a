"""Provisioned throughput as AWS describes it, and CloudWatch's counts beside our own.

Series exist from the first description on, and only for deployments that the policy still has.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.control.provisioned import ControlPlaneHeard, ProvisionedChanged, ProvisionedObserved, Reconciled
from router.domain.deployment import Kind
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

STATUSES = ("Creating", "InService", "Updating", "Failed", "missing")
_WHAT = ("calls", "throttles", "input_tokens", "output_tokens")


class ProvisionedMetrics:
    """By deployment. Deployments that CloudWatch counts under one ModelId are shown under the name of the first."""

    name = "metrics_provisioned"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._states, self._regions = vocabulary, Words(), Words()
        self._reserved: set[str] = set()
        one, by = ("deployment",), ("deployment", "by")
        self._status = Gauge(
            registry, "router_provisioned_status", "1 for the status that AWS gives it.", ("deployment", "status")
        )
        self._units = Gauge(registry, "router_provisioned_units", "Model units it has.", one)
        self._desired = Gauge(registry, "router_provisioned_desired_units", "Model units that it shall have.", one)
        self._ends = Gauge(registry, "router_commitment_end_timestamp_seconds", "When its commitment ends.", one)
        self._changes = Counter(
            registry, "router_provisioned_changes", "Changes of its status.", ("deployment", "status")
        )
        self._counted = {
            what: Gauge(
                registry,
                f"router_reconciled_{what}",
                f"{what.replace('_', ' ').capitalize()} of the last settled minutes, as AWS and as we counted.",
                by,
            )
            for what in _WHAT
        }
        self._latency = Gauge(registry, "router_reconciled_latency_seconds", "Mean time of a call.", by)
        self._ttft = Gauge(registry, "router_reconciled_ttft_seconds", "Mean time to first token of streams.", by)
        self._gap = Gauge(
            registry,
            "router_reconciled_gap_ratio",
            "Share of the calls that one side counted and the other did not; above 0: AWS counted more.",
            one,
        )
        self._quota = Gauge(
            registry, "router_reconciled_quota_tokens_per_min", "Quota that AWS estimates was used, at most.", one
        )
        self._seconds = Gauge(registry, "router_reconciled_seconds", "Length of those minutes.", one)
        self._answers = Gauge(
            registry, "router_aws_control_up", "0 while a service of AWS does not answer.", ("service", "region")
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Forget what was provisioned and is not any more."""
        bedrock = [d for d in policy.deployments if d.address.backend == "bedrock"]
        reserved = {self._words.deployments[d.name] for d in bedrock if d.kind is Kind.PROVISIONED}
        gone, self._reserved = self._reserved - reserved, reserved
        counted = (*self._counted.values(), self._latency, self._ttft, self._gap, self._quota, self._seconds)
        for gauge in (self._status, self._units, self._desired, self._ends, *counted):
            gauge.forget(lambda labels: labels[0] in gone)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            ProvisionedObserved: self._on_observed,
            ProvisionedChanged: self._on_changed,
            Reconciled: self._on_reconciled,
            ControlPlaneHeard: self._on_heard,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_observed(self, event: ProvisionedObserved) -> None:
        name = self._words.deployments[event.deployment]
        for status in STATUSES:
            self._status.put((name, status), float(status == event.status))
        self._units.put((name,), event.units)
        self._desired.put((name,), event.desired_units)
        if event.ends_at is None:
            self._ends.forget(lambda labels: labels[0] == name)
        else:
            self._ends.put((name,), event.ends_at)

    def _on_changed(self, event: ProvisionedChanged) -> None:
        self._changes.add((self._words.deployments[event.deployment], self._states[event.new]))

    def _on_reconciled(self, event: Reconciled) -> None:
        name = self._words.deployments[event.deployments[0]]
        for by, tally in (("aws", event.theirs), ("router", event.ours)):
            for what, gauge in self._counted.items():
                gauge.put((name, by), getattr(tally, what))
            for gauge, value in ((self._latency, tally.latency_s), (self._ttft, tally.ttft_s)):
                if value is not None:
                    gauge.put((name, by), value)
        self._gap.put((name,), event.gap_ratio)
        self._seconds.put((name,), event.seconds)
        if event.quota_tokens_per_min is not None:
            self._quota.put((name,), event.quota_tokens_per_min)

    def _on_heard(self, event: ControlPlaneHeard) -> None:
        self._answers.put((self._states[event.service], self._regions[event.region]), float(event.answers))
