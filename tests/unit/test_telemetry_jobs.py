"""What batch jobs are measured by."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.control.jobs import AnswersUnused, JobChanged, JobsObserved, RecordsReturned
from router.domain.events import Event
from router.policy.compile import compile_policy
from router.telemetry.aws.jobs import JobMetrics
from router.telemetry.labels import Vocabulary

ONLINE = (
    "  - {name: now, model: m, tier: small, backend: bedrock, target: t, price_usd_per_mtok: {input: 1, output: 1}}\n"
)
NIGHT = (
    "  - {name: night, model: m, tier: small, backend: bedrock, target: t, kind: job, "
    "price_usd_per_mtok: {input: 1, output: 1}, "
    "job: {s3: 's3://bucket/x', role_arn: 'arn:aws:iam::123456789012:role/batch'}}\n"
)


class Told:
    """Metrics of a policy with a lane of jobs, and what they show."""

    def __init__(self) -> None:
        policy = compile_policy([("p.yaml", "deployments:\n" + ONLINE + NIGHT)])
        self.registry = CollectorRegistry()
        self.metrics = JobMetrics(self.registry, policy, Vocabulary(policy))

    def tell(self, event: Event) -> None:
        self.metrics.handlers()[type(event)](event)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"router_batch_job{name}", {"deployment": "night", **labels})


def test_a_lane_has_series_at_zero_before_anything_happens() -> None:
    """And deployments without jobs have none."""
    told = Told()
    assert told.value("s", status="InProgress") == 0.0
    assert told.value("_returned_requests_total", code="batch_late") == 0.0
    assert told.registry.get_sample_value("router_batch_jobs", {"deployment": "now", "status": "InProgress"}) is None


def test_what_runs_is_shown_and_gone_when_it_is_over() -> None:
    """Jobs by status, their records, ages, and the least slack while anybody waits."""
    told = Told()
    told.tell(JobsObserved("night", 7, 60.0, 300, (("InProgress", 2),), 900.0, 3600.0))
    assert (told.value("s", status="InProgress"), told.value("_collecting_requests")) == (2.0, 7.0)
    assert (told.value("_running_requests"), told.value("_age_seconds")) == (300.0, 900.0)
    assert told.value("_least_slack_seconds") == 3600.0
    told.tell(JobsObserved("night", 0, 0.0, 0, (), 0.0, None))
    assert (told.value("s", status="InProgress"), told.value("_least_slack_seconds")) == (0.0, None)


def test_changes_returns_and_waste_are_counted() -> None:
    """A status that is told again is no change."""
    told = Told()
    for old in ("Submitted", "InProgress"):
        told.tell(JobChanged("night", "t", old, "InProgress", 300, 10.0))
    told.tell(RecordsReturned("night", "batch_late", 3))
    told.tell(AnswersUnused("night", "t", 2, 0.25))
    assert told.value("_changes_total", status="InProgress") == 1.0
    assert told.value("_returned_requests_total", code="batch_late") == 3.0
    assert (told.value("_unused_answers_total"), told.value("_unused_usd_total")) == (2.0, 0.25)


def test_a_lane_that_is_gone_shows_no_gauges() -> None:
    """Its counters stay, as those of everything that was."""
    told = Told()
    told.tell(JobsObserved("night", 7, 60.0, 300, (("InProgress", 2),), 900.0, 3600.0))
    told.metrics.create(compile_policy([("p.yaml", "deployments:\n" + ONLINE)]))
    assert (told.value("s", status="InProgress"), told.value("_age_seconds")) == (None, None)
