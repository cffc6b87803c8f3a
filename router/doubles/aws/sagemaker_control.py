"""The control service of SageMaker: optimisation jobs, and as much of endpoints as tells that they are there.

A job is STARTING, then INPROGRESS, then COMPLETED after `World.optimizing_s` by the world's wall clock. Its name begins
with `fail` where it shall fail.
"""

from __future__ import annotations

from datetime import UTC, datetime

from router.doubles.aws.call import AwsError, Call, Json
from router.doubles.aws.world import World

_STARTING_SHARE = 0.1
_ENDED = frozenset({"COMPLETED", "FAILED", "STOPPED"})
_IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/djl-inference:0.32.0-lmi14.0.0-cu126"
_KEPT = (
    "OptimizationJobName",
    "RoleArn",
    "ModelSource",
    "OptimizationEnvironment",
    "DeploymentInstanceType",
    "OptimizationConfigs",
    "OutputConfig",
    "StoppingCondition",
    "VpcConfig",
    "MaxInstanceCount",
)


class SageMakerControl:
    """The service `sagemaker`."""

    service = "sagemaker"

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs: dict[str, Json] = {}
        self._begun: dict[str, float] = {}
        self._endpoints: dict[str, Json] = {}

    async def create_optimization_job(self, call: Call) -> Json:
        """Begin a job; each of its configurations says one technique."""
        params, name, at = call.params, call.params["OptimizationJobName"], self._world.at()
        if name in self._jobs:
            raise AwsError("ResourceInUse", f"There is an optimization job {name} already.")
        for config in params["OptimizationConfigs"]:
            if len(config) != 1:
                raise AwsError("ValidationException", "A configuration has exactly one technique.")
        arn = f"arn:aws:sagemaker:{call.region}:{call.account}:optimization-job/{name}"
        self._jobs[name] = {key: params[key] for key in _KEPT if key in params} | {
            "OptimizationJobArn": arn,
            "OptimizationJobStatus": "STARTING",
            "CreationTime": _time(at),
            "LastModifiedTime": _time(at),
        }
        self._begun[name] = at
        return {"OptimizationJobArn": arn}

    async def describe_optimization_job(self, call: Call) -> Json:
        """How it stands."""
        return self._aged(call.params["OptimizationJobName"], call.region)

    async def list_optimization_jobs(self, call: Call) -> Json:
        """All of them, the newest last."""
        jobs = [self._aged(name, call.region) for name in self._jobs]
        wanted = call.params.get("StatusEquals")
        told = ("OptimizationJobName", "OptimizationJobArn", "CreationTime", "OptimizationJobStatus")
        return {
            "OptimizationJobSummaries": [
                {key: job[key] for key in (*told, "DeploymentInstanceType", "LastModifiedTime")}
                | {"OptimizationTypes": [next(iter(config)) for config in job["OptimizationConfigs"]]}
                for job in jobs
                if wanted in (None, job["OptimizationJobStatus"])
            ]
        }

    async def stop_optimization_job(self, call: Call) -> Json:
        """Stopped at once."""
        job = self._aged(call.params["OptimizationJobName"], call.region)
        if job["OptimizationJobStatus"] not in _ENDED:
            job |= {"OptimizationJobStatus": "STOPPED", "OptimizationEndTime": _time(self._world.at())}
        return {}

    async def create_endpoint(self, call: Call) -> Json:
        """In service at once."""
        name, at = call.params["EndpointName"], _time(self._world.at())
        if name in self._endpoints:
            raise AwsError("ResourceInUse", f"There is an endpoint {name} already.")
        arn = f"arn:aws:sagemaker:{call.region}:{call.account}:endpoint/{name}"
        self._endpoints[name] = {
            "EndpointName": name,
            "EndpointArn": arn,
            "EndpointConfigName": call.params["EndpointConfigName"],
            "EndpointStatus": "InService",
            "CreationTime": at,
            "LastModifiedTime": at,
        }
        return {"EndpointArn": arn}

    async def describe_endpoint(self, call: Call) -> Json:
        """How it stands."""
        name = call.params["EndpointName"]
        if name not in self._endpoints:
            raise AwsError("ValidationException", f'Could not find endpoint "{name}".', 400)
        return self._endpoints[name]

    def _aged(self, name: str, region: str) -> Json:
        if name not in self._jobs:
            raise AwsError("ResourceNotFound", f"There is no optimization job {name}.")
        job, begun, at = self._jobs[name], self._begun[name], self._world.at()
        if job["OptimizationJobStatus"] in _ENDED:
            return job
        share = (at - begun) / self._world.optimizing_s if self._world.optimizing_s > 0.0 else 1.0
        if share >= _STARTING_SHARE:
            started = begun + _STARTING_SHARE * self._world.optimizing_s
            job |= {"OptimizationJobStatus": "INPROGRESS", "OptimizationStartTime": _time(started)}
        if share >= 1.0:
            ended = {"OptimizationEndTime": _time(begun + self._world.optimizing_s)}
            if name.startswith("fail"):
                job |= {"OptimizationJobStatus": "FAILED", "FailureReason": "The model could not be loaded."} | ended
            else:
                image = _IMAGE.format(region=region)
                output = {"OptimizationOutput": {"RecommendedInferenceImage": image}}
                job |= {"OptimizationJobStatus": "COMPLETED"} | output | ended
        return job


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
