"""Optimisation jobs of SageMaker: begin one, follow it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from router.backends.aws.control.optimization_plan import OptimizationPlan
from router.domain.errors import RouterError

COMPLETED = "COMPLETED"
_OVER = frozenset({COMPLETED, "FAILED", "STOPPED"})
_IN_USE = "ResourceInUse"


class Job(Struct, frozen=True):
    """How a job stands; `image` is what AWS recommends to host its result with."""

    name: str
    arn: str
    status: str
    output: str
    image: str | None = None
    failure: str | None = None


async def begin(client: Any, plan: OptimizationPlan) -> bool:
    """Submit a plan's job; false where it was submitted before: the job is named after its plan."""
    from botocore.exceptions import ClientError

    try:
        await client.create_optimization_job(**request_of(plan))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != _IN_USE:
            raise
        return False
    return True


def request_of(plan: OptimizationPlan) -> dict[str, Any]:
    """What CreateOptimizationJob is asked."""
    return {
        "OptimizationJobName": plan.job,
        "RoleArn": plan.role_arn,
        "ModelSource": _source(plan),
        "DeploymentInstanceType": plan.instance_type,
        "OptimizationConfigs": [_config(plan)],
        "OutputConfig": {"S3OutputLocation": plan.output},
        "StoppingCondition": {"MaxRuntimeInSeconds": plan.max_runtime_s},
    }


def _source(plan: OptimizationPlan) -> dict[str, Any]:
    if not plan.source.startswith("s3://"):
        return {"SageMakerModel": {"ModelName": plan.source}}
    accepted = {"ModelAccessConfig": {"AcceptEula": True}} if plan.accept_eula else {}
    return {"S3": {"S3Uri": plan.source, **accepted}}


def _config(plan: OptimizationPlan) -> dict[str, Any]:
    environment = {"OverrideEnvironment": dict(plan.environment)} if plan.environment else {}
    match plan.technique:
        case "quantization":
            return {"ModelQuantizationConfig": environment}
        case "compilation":
            return {"ModelCompilationConfig": environment}
        case "speculative-decoding":
            data = {"S3Uri": plan.training_data, "S3DataType": "S3Prefix"}
            training = {"TrainingDataSource": data} if plan.training_data else {}
            return {"ModelSpeculativeDecodingConfig": {"Technique": "EAGLE", **training}}


async def look(client: Any, name: str) -> Job:
    """How a job stands; raises what the SDK raises."""
    told = await client.describe_optimization_job(OptimizationJobName=name)
    return Job(
        name=told["OptimizationJobName"],
        arn=told["OptimizationJobArn"],
        status=told["OptimizationJobStatus"],
        output=told["OutputConfig"]["S3OutputLocation"],
        image=told.get("OptimizationOutput", {}).get("RecommendedInferenceImage"),
        failure=told.get("FailureReason"),
    )


async def until_over(client: Any, name: str, *, poll_s: float, seen: Callable[[Job], None]) -> Job:
    """Look again every `poll_s` until it is done; `seen` is told each time. Raises `RouterError` where it was not."""
    while True:
        job = await look(client, name)
        seen(job)
        if job.status == COMPLETED:
            return job
        if job.status in _OVER:
            raise RouterError(f"{name}: {job.status}: {job.failure or 'AWS does not say why'}")
        await asyncio.sleep(poll_s)
