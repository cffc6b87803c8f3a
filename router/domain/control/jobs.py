"""What happened to batch jobs and to the requests that wait for them."""

from __future__ import annotations

from router.domain.events import Event


class JobChanged(Event, frozen=True):
    """A batch job went from one status to the next; `old` is empty for a new one. `seconds` since it was submitted."""

    deployment: str
    job: str
    old: str
    new: str
    records: int
    seconds: float
    reason: str = ""


class JobsObserved(Event, frozen=True):
    """A lane of batch jobs at a tick: records that are collected and for how long the oldest has been, jobs that run
    by status with their records, the age of the oldest, and the least slack that anybody who waits has left."""

    deployment: str
    collecting: int
    oldest_record_s: float
    running: int
    jobs: tuple[tuple[str, int], ...]
    oldest_job_s: float
    least_slack_s: float | None


class RecordsReturned(Event, frozen=True):
    """Requests were given back by the batch lane, to be decided again elsewhere, and why (an error code)."""

    deployment: str
    code: str
    records: int


class AnswersUnused(Event, frozen=True):
    """Answers of a job came when nobody waited for them any more: paid, and of no use. `by_class` is the cost by
    request class, in USD."""

    deployment: str
    job: str
    records: int
    cost_usd: float
    by_class: tuple[tuple[str, float], ...] = ()
