"""How requests are collected into batch jobs, and what may go wrong with one."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class JobTerms(Struct, frozen=True):
    """A lane of batch jobs: records are collected until `max_records` are there, or for `collect_s` if at least
    `min_records` are (Bedrock takes no job of fewer). A job is expected to take `typical_s` until others were seen,
    and is given up by the service after `timeout_s` (24 to 168 h). `s3` is the prefix for input and output, `role_arn`
    the role that the service reads and writes it with. A record leaves `margin_s` before the last moment."""

    s3: str
    role_arn: str
    min_records: int = 100
    max_records: int = 50_000
    collect_s: float = 900.0
    typical_s: float = 14_400.0
    timeout_s: float = 86_400.0
    margin_s: float = 120.0


class JobStatus(StrEnum):
    """`PLANNED` is ours: written down before the service is asked. The others are the service's."""

    PLANNED = "Planned"
    SUBMITTED = "Submitted"
    VALIDATING = "Validating"
    SCHEDULED = "Scheduled"
    IN_PROGRESS = "InProgress"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    PARTIALLY_COMPLETED = "PartiallyCompleted"
    FAILED = "Failed"
    STOPPED = "Stopped"
    EXPIRED = "Expired"


ENDED = frozenset(
    {
        JobStatus.COMPLETED,
        JobStatus.PARTIALLY_COMPLETED,
        JobStatus.FAILED,
        JobStatus.STOPPED,
        JobStatus.EXPIRED,
    }
)
