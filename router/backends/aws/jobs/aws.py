"""The calls of jobs over aioboto3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aioboto3
from botocore.exceptions import ClientError
from msgspec.structs import replace

from router.backends.aws.errors import backend_error
from router.backends.aws.jobs.service import Told
from router.backends.aws.sessions import Clients
from router.domain.aws.job import JobStatus
from router.domain.deployment import Deployment
from router.domain.errors import BackendError, Refused
from router.ports.jobs import KnownJob

_HOUR_S = 3600.0
_SILENCE_S = 60.0
_CONNECTIONS = 50
_CHUNK_BYTES = 65_536
JOB_NAME = "router-{token}"


class AwsJobService:
    """`JobService` over aioboto3. S3 is called where the SDK finds it: `AWS_ENDPOINT_URL_S3` says where else."""

    def __init__(self, session: aioboto3.Session | None = None) -> None:
        self._clients = Clients(session, max_connections=_CONNECTIONS, silence_s=_SILENCE_S)

    async def put(self, deployment: Deployment, uri: str, body: bytes) -> None:
        """Write an object."""
        bucket, key = _split(uri)
        try:
            await (await self._s3(deployment)).put_object(Bucket=bucket, Key=key, Body=body)
        except Exception as error:
            raise backend_error(error, service="S3") from error

    async def submit(self, deployment: Deployment, job: KnownJob) -> str:
        """Ask for a job and give its ARN; the same token asks for the same job."""
        terms = deployment.job
        assert terms is not None
        try:
            answer = await (await self._bedrock(deployment)).create_model_invocation_job(
                jobName=JOB_NAME.format(token=job.token),
                clientRequestToken=job.token,
                roleArn=terms.role_arn,
                modelId=deployment.address.target,
                modelInvocationType="Converse",
                inputDataConfig={"s3InputDataConfig": {"s3Uri": job.input_uri, "s3InputFormat": "JSONL"}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": job.output_uri}},
                timeoutDurationInHours=round(terms.timeout_s / _HOUR_S),
            )
        except Exception as error:
            raise backend_error(error) from error
        arn: str = answer["jobArn"]
        return arn

    async def find(self, deployment: Deployment, job: KnownJob) -> str | None:
        """The ARN of a job that was asked for, if the service knows it."""
        name = JOB_NAME.format(token=job.token)
        try:
            bedrock = await self._bedrock(deployment)
            pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(nameContains=name)
            found = [one async for page in pages for one in page.get("invocationJobSummaries", ())]
        except Exception as error:
            raise backend_error(error) from error
        return next((one["jobArn"] for one in found if one["jobName"] == name), None)

    async def status(self, deployment: Deployment, arn: str) -> Told:
        """How a job stands."""
        try:
            answer = await (await self._bedrock(deployment, arn)).get_model_invocation_job(jobIdentifier=arn)
            return Told(JobStatus(answer["status"]), answer.get("message", ""))
        except Exception as error:
            found = backend_error(error)
            raise (Refused(found.message) if _is_gone(error) else found) from error

    async def stop(self, deployment: Deployment, arn: str) -> None:
        """Have it stopped; what is done by then is paid."""
        try:
            await (await self._bedrock(deployment, arn)).stop_model_invocation_job(jobIdentifier=arn)
        except Exception as error:
            raise backend_error(error) from error

    async def lines(self, deployment: Deployment, job: KnownJob) -> AsyncIterator[bytes]:
        """Its output, line by line, in no order; nothing where it wrote none."""
        bucket, prefix = _split(job.output_uri)
        try:
            s3 = await self._s3(deployment)
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            names = [one["Key"] async for page in pages for one in page.get("Contents", ())]
            for name in names:
                if name.endswith(".jsonl.out"):
                    answer = await s3.get_object(Bucket=bucket, Key=name)
                    async with (body := answer["Body"]):
                        async for line in body.iter_lines(_CHUNK_BYTES):
                            yield line
        except BackendError:
            raise
        except Exception as error:
            raise backend_error(error, service="S3") from error

    async def close(self) -> None:
        """Free connections."""
        await self._clients.close()

    async def _bedrock(self, deployment: Deployment, arn: str | None = None) -> Any:
        """A job stays in its region, wherever the deployment lies by now."""
        address = deployment.address
        return await self._clients.client(
            "bedrock", address if arn is None else replace(address, region=arn.split(":")[3])
        )

    async def _s3(self, deployment: Deployment) -> Any:
        return await self._clients.client("s3", replace(deployment.address, url=None))


def _is_gone(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] == "ResourceNotFoundException"


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
