"""One job from its plan to its end: when to ask for its status, who still waits, when to stop it. Sans-IO."""

from __future__ import annotations

from router.domain.aws.job import ENDED, JobStatus
from router.ports.jobs import KnownJob

POLL_SHARE, POLL_LEAST_S, POLL_MOST_S = 0.05, 5.0, 300.0
"""A job is asked about after this share of its age, within these bounds."""
ORPHAN_S = 120.0
"""How long a job goes on, or its answers are kept for those who may come back after a restart, when nobody waits."""
_RETRY_S, _DOUBLINGS = 30.0, 4


class Running:
    """A job and what is known of it. Times are monotonic."""

    def __init__(self, known: KnownJob, *, now: float) -> None:
        self.known = known
        self.status = JobStatus.PLANNED
        self.submitted_at = now
        self.poll_at = now
        self.failures = 0
        self.is_stopping = False
        self.is_former = False
        """Whether an earlier life of the process began it."""
        self.is_read = False
        """Whether its output was read to the end."""
        self.alone_since: float | None = now

    @property
    def has_ended(self) -> bool:
        """Whether the service will do no more for it."""
        return self.status in ENDED

    def age_s(self, *, now: float) -> float:
        """Seconds since it was submitted, or taken up again."""
        return now - self.submitted_at

    def is_due(self, *, now: float) -> bool:
        """Whether it is time to see to it again."""
        return not self.is_read and now >= self.poll_at

    def looked(self, status: JobStatus, *, now: float) -> JobStatus:
        """The service told its status; the one before."""
        old, self.status = self.status, status
        self.failures = 0
        self.poll_at = now + min(max(POLL_SHARE * self.age_s(now=now), POLL_LEAST_S), POLL_MOST_S)
        return old

    def failed(self, *, now: float) -> None:
        """The service could not be asked: later again, and later each time."""
        self.failures += 1
        self.poll_at = now + min(_RETRY_S * 2.0 ** min(self.failures - 1, _DOUBLINGS), POLL_MOST_S)

    def seen(self, waiting: int, *, now: float) -> None:
        """So many wait for it now."""
        if waiting:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = now

    def is_forsaken(self, *, now: float) -> bool:
        """Whether nobody has waited for it for long enough that nobody will come back."""
        return self.alone_since is not None and now - self.alone_since >= ORPHAN_S
