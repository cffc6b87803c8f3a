"""What a deployment may say of the batch jobs that its requests are collected into."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.policy.schema.aws import ROLE_ARN
from router.policy.schema.values import Count, Duration, Spec, read_duration

S3_PREFIX = r"^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/[-!_*'().a-zA-Z0-9]+)*/?$"

_HOUR_S = 3600.0
_LEAST_S, _MOST_S = 24 * _HOUR_S, 168 * _HOUR_S


def _read_timeout(value: Any) -> float:
    seconds = read_duration(value)
    if not _LEAST_S <= seconds <= _MOST_S or seconds % _HOUR_S:
        raise PydanticCustomError("timeout", "Bedrock gives a job whole hours from 24h to 168h: write one of them")
    return seconds


Timeout = Annotated[float, BeforeValidator(_read_timeout), WithJsonSchema({"type": ["string", "number"]})]


class JobSpec(Spec):
    """Batch jobs on Bedrock: half the price, hours later. Only requests whose deadline allows it wait for one."""

    s3: Annotated[str, Field(pattern=S3_PREFIX)]
    """Prefix that input and output are written under, such as s3://bucket/router."""
    role_arn: Annotated[str, Field(pattern=ROLE_ARN)]
    """Service role that Bedrock reads and writes that prefix with."""
    min_records: Count = 100
    """Fewest requests in a job; the service takes no fewer than its quota says (100 as a rule)."""
    max_records: Annotated[int, Field(ge=1, le=50_000)] = 50_000
    """Most requests in a job."""
    collect_for: Duration = 900.0
    """How long requests are collected for a job, counted from the oldest, once `min_records` are there."""
    typical: Duration = 14_400.0
    """How long a job takes until the router has seen some itself."""
    timeout: Timeout = _LEAST_S
    """When the service gives a job up: from 24h to 168h, in whole hours."""
    margin: Duration = 120.0
    """How much sooner than at the last moment a request leaves for a deployment that answers at once."""
