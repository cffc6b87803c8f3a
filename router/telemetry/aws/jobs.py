"""Batch jobs: what is collected, what runs, for how long, what is given back, and what was paid in vain."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.aws.job import JobStatus
from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.deployment import Kind
from router.domain.errors import Returned
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

STATUSES = tuple(status.value for status in JobStatus)
CODES = (Returned.code, *Returned.codes)


class JobMetrics:
    """By deployment of kind job."""

    name = "metrics_jobs"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._has = vocabulary, frozenset[str]()
        one, by_status = ("deployment",), ("deployment", "status")
        self._jobs = Gauge(registry, "router_batch_jobs", "Batch jobs that are not over, by status.", by_status)
        self._changes = Counter(registry, "router_batch_job_changes", "Jobs that came to a status.", by_status)
        self._collecting = Gauge(
            registry, "router_batch_job_collecting_requests", "Requests collected for the next job.", one
        )
        self._running = Gauge(registry, "router_batch_job_running_requests", "Requests in jobs that are not over.", one)
        self._oldest = Gauge(
            registry, "router_batch_job_collecting_seconds", "For how long the oldest has been collected.", one
        )
        self._age = Gauge(registry, "router_batch_job_age_seconds", "Age of the oldest job that is not over.", one)
        self._slack = Gauge(
            registry, "router_batch_job_least_slack_seconds", "Least time left to a deadline of those who wait.", one
        )
        self._returned = Counter(
            registry, "router_batch_job_returned_requests", "Requests given back, and why.", ("deployment", "code")
        )
        self._unused = Counter(
            registry, "router_batch_job_unused_answers", "Answers that nobody waited for any more.", one
        )
        self._lost = Counter(registry, "router_batch_job_unused_usd", "What they cost.", one)
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for deployments that have jobs, and none for those that have none any more."""
        names = frozenset(self._words.deployments[d.name] for d in policy.deployments if d.kind is Kind.JOB)
        gone, self._has = self._has - names, names
        for gauge in (self._jobs, self._collecting, self._running, self._oldest, self._age, self._slack):
            gauge.forget(lambda labels: labels[0] in gone)
        self._jobs.create(product(names, STATUSES))
        self._changes.create(product(names, STATUSES))
        self._returned.create(product(names, CODES))
        for family in (self._collecting, self._running, self._oldest, self._age, self._unused, self._lost):
            family.create((name,) for name in names)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            JobChanged: self._on_changed,
            JobsObserved: self._on_observed,
            RecordsReturned: self._on_returned,
            AnswersUnused: self._on_unused,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_changed(self, event: JobChanged) -> None:
        if event.new != event.old:
            self._changes.add((self._words.deployments[event.deployment], event.new))

    def _on_observed(self, event: JobsObserved) -> None:
        name, counts = self._words.deployments[event.deployment], dict(event.jobs)
        for status in STATUSES:
            self._jobs.put((name, status), counts.get(status, 0))
        self._collecting.put((name,), event.collecting)
        self._running.put((name,), event.running)
        self._oldest.put((name,), event.oldest_record_s)
        self._age.put((name,), event.oldest_job_s)
        if event.least_slack_s is None:
            self._slack.forget(lambda labels: labels[0] == name)
        else:
            self._slack.put((name,), event.least_slack_s)

    def _on_returned(self, event: RecordsReturned) -> None:
        self._returned.add((self._words.deployments[event.deployment], event.code), event.records)

    def _on_unused(self, event: AnswersUnused) -> None:
        name = self._words.deployments[event.deployment]
        self._unused.add((name,), event.records)
        self._lost.add((name,), event.cost_usd)
