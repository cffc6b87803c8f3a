"""The `job` part of a deployment as written to `JobTerms`, and what in it cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.aws.job import JobTerms
from router.domain.aws.terms import Api
from router.domain.deployment import Kind
from router.domain.errors import PolicyError
from router.policy.parse import Path, Source
from router.policy.schema.fleet import DeploymentSpec

BACKEND = "bedrock_jobs"
"""Registry key of the backend that makes batch jobs on Bedrock."""
HALF = 0.5
"""Batch inference costs half of what on-demand calls do (aws.amazon.com/bedrock/pricing)."""


def job_terms(spec: DeploymentSpec) -> JobTerms | None:
    """How its jobs are made; `None` where it has none."""
    own = spec.job
    if own is None:
        return None
    return JobTerms(
        s3=own.s3.rstrip("/"),
        role_arn=own.role_arn,
        min_records=own.min_records,
        max_records=own.max_records,
        collect_s=own.collect_for,
        typical_s=own.typical,
        timeout_s=own.timeout,
        margin_s=own.margin,
    )


def backend_of(spec: DeploymentSpec) -> str:
    """Which backend calls it."""
    return BACKEND if spec.kind is Kind.JOB else spec.backend


def price_factor(spec: DeploymentSpec) -> float:
    """As written, else half the price of the model for batch jobs; a price of its own is that of its jobs already."""
    if spec.kind is Kind.JOB and "price_factor" not in spec.model_fields_set and spec.price_usd_per_mtok is None:
        return HALF
    return spec.price_factor


def unfit_job(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """What a deployment of batch jobs cannot be, and what only such a one may say."""
    own = spec.job
    if spec.kind is not Kind.JOB:
        return
    if spec.backend != "bedrock":
        message = "batch jobs are made on Amazon Bedrock: write `backend: bedrock`, or another `kind`"
        yield source.problem((*path, "kind"), message)
    if spec.replicas > 1:
        yield source.problem((*path, "replicas"), "a lane of batch jobs is one: drop `replicas`", key=True)
    if spec.limit is not None:
        message = "batch jobs are bounded by `job.max_records` and `max_in_flight`: drop `limit`"
        yield source.problem((*path, "limit"), message, key=True)
    if spec.aws is not None and spec.aws.api is not Api.CONVERSE:
        message = "batch jobs are written as Converse spells a request: drop `api`"
        yield source.problem((*path, "aws", "api"), message, key=True)
    if own is None:
        return
    if own.min_records > own.max_records:
        message = f"`max_records` allows {own.max_records}: a job could never begin"
        yield source.problem((*path, "job", "min_records"), message)
