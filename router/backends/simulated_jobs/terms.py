"""What a fleet may say of a deployment of kind job, and what the router is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from router.domain.aws.job import JobTerms

NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
_LEAST_TIMEOUT_S, _MOST_TIMEOUT_S = 86_400.0, 604_800.0

_AS_IN_A_POLICY = {
    "collect_for": "collect_s",
    "typical": "typical_s",
    "timeout": "timeout_s",
    "margin": "margin_s",
}
_OF_NO_JOB = ("s3", "role_arn")


class JobSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """How a lane collects, as in a policy but in seconds, and how its jobs behave, which no router is told.

    A job of n records takes `takes_s + per_record_s * n`, times a seeded log-normal factor of that `sigma`. Of all jobs
    `fail_ratio` fail when they would have been done; of the records of the others `record_fail_ratio` have no answer.
    """

    takes_s: Positive
    per_record_s: NonNegative = 0.0
    sigma: NonNegative = 0.0
    fail_ratio: Share = 0.0
    record_fail_ratio: Share = 0.0
    min_records: Annotated[int, Meta(ge=1)] = 100
    max_records: Annotated[int, Meta(ge=1, le=50_000)] = 50_000
    collect_s: NonNegative = 900.0
    typical_s: Positive = 14_400.0
    timeout_s: Annotated[float, Meta(ge=_LEAST_TIMEOUT_S, le=_MOST_TIMEOUT_S)] = _LEAST_TIMEOUT_S
    margin_s: NonNegative = 120.0


def job_terms(spec: JobSpec) -> JobTerms:
    """What the router is told: how to collect, and how long the operator takes a job to last."""
    return JobTerms(
        s3="s3://simulated",
        role_arn="",
        min_records=spec.min_records,
        max_records=spec.max_records,
        collect_s=spec.collect_s,
        typical_s=spec.typical_s,
        timeout_s=spec.timeout_s,
        margin_s=spec.margin_s,
    )


def like(terms: JobTerms) -> JobSpec:
    """Jobs that take as long as the operator expects."""
    return JobSpec(
        takes_s=terms.typical_s,
        min_records=terms.min_records,
        max_records=terms.max_records,
        collect_s=terms.collect_s,
        typical_s=terms.typical_s,
        timeout_s=terms.timeout_s,
        margin_s=terms.margin_s,
    )


def unfit(spec: JobSpec | None, *, replicas: int, others: Mapping[str, object]) -> list[tuple[str, str]]:
    """What a deployment of kind job cannot be, as (problem, path in the deployment). `others` are the fields that say
    how servers behave, where they are said."""
    found = [
        (f"a batch job has no {field}: how long it takes is `job.takes_s`, drop it", f".{field}")
        for field, value in others.items()
        if value
    ]
    if replicas > 1:
        found.append(("a lane of batch jobs is one: drop `replicas`", ".replicas"))
    if spec is None:
        return [("a job deployment needs job, such as `job: {takes_s: 7200, min_records: 100}`", ""), *found]
    if spec.min_records > spec.max_records:
        problem = f"`max_records` allows {spec.max_records}: a job could never begin, write at most that many"
        found.append((problem, ".job.min_records"))
    return found


def advice(field: str) -> str:
    """What to write in place of an unknown field of `job`."""
    if field in _AS_IN_A_POLICY:
        return f"; in a fleet it is `{_AS_IN_A_POLICY[field]}`, a number of seconds"
    if field in _OF_NO_JOB:
        return "; simulated jobs are kept nowhere, drop it"
    return f"; a job may have {', '.join(JobSpec.__struct_fields__)}"
