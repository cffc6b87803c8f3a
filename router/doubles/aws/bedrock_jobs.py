"""Batch inference jobs of the double: they read their input from S3, and write answers and a manifest there.

A job is checked as Bedrock checks it (at least `batch.min_records` lines, JSON of the right form, a time-out of 24 to
168 hours), is in progress for `batch.takes_s` by the world's wall clock, and then bills its records at half price. The
same `clientRequestToken` makes no second job. What goes wrong is ordered on `World.batch`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import aiohttp

from router.doubles.aws.bedrock_profiles import page_of, time_of
from router.doubles.aws.call import AwsError, Call, Json
from router.doubles.aws.models import Bill
from router.doubles.aws.runtime.places import find_place
from router.doubles.aws.world import World

_HOUR_S = 3600.0
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=double/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}
_OVER = frozenset({"Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired"})


@dataclass(slots=True)
class _Job:
    arn: str
    call: Call
    submitted_at: float
    lines: list[Json]
    ends_at: float
    status: str = "InProgress"
    message: str | None = None
    ended_at: float | None = None
    success: int = 0
    errors: int = 0
    changed_at: float = field(default=0.0)


class BedrockJobs:
    """Create, get, list and stop model invocation jobs."""

    def __init__(self, world: World) -> None:
        self._jobs_world = world
        self._jobs: dict[str, _Job] = {}
        self._job_tokens: dict[str, str] = {}

    async def create_model_invocation_job(self, call: Call) -> Json:
        """Take in a job."""
        params, world = call.params, self._jobs_world
        token = params.get("clientRequestToken", "")
        if token in self._job_tokens:
            return {"jobArn": self._job_tokens[token]}
        if any(job.call.params["jobName"] == params["jobName"] for job in self._jobs.values()):
            raise AwsError("ConflictException", f"A job named {params['jobName']} exists already.")
        find_place(world, params["modelId"], 0)
        code = blake2b(f"{params['jobName']} {token}".encode(), digest_size=6).hexdigest()
        arn = f"arn:aws:bedrock:{call.region}:{call.account}:model-invocation-job/{code}"
        at = world.at()
        job = self._jobs[arn] = _Job(arn, call, at, [], at + world.batch.takes_s, changed_at=at)
        if token:
            self._job_tokens[token] = arn
        job.message = await self._check(job) or world.batch.fails
        if job.message is not None:
            job.status, job.ended_at = "Failed", at
        return {"jobArn": arn}

    async def get_model_invocation_job(self, call: Call) -> Json:
        """One, by ARN or id."""
        return await self._told_job(self._job(call.params["jobIdentifier"]))

    async def list_model_invocation_jobs(self, call: Call) -> Json:
        """The newest first, in pages."""
        params = call.params
        told = [await self._told_job(job) for job in self._jobs.values()]
        told = [one for one in told if params.get("nameContains", "") in one["jobName"]]
        told = [one for one in told if params.get("statusEquals") in (None, one["status"])]
        told.sort(key=lambda one: one["submitTime"], reverse=params.get("sortOrder") != "Ascending")
        page, more = page_of(told, params)
        return {"invocationJobSummaries": page, "nextToken": more}

    async def stop_model_invocation_job(self, call: Call) -> Json:
        """Stop one; what it has done by then is paid."""
        job = await self._aged_job(self._job(call.params["jobIdentifier"]))
        if job.status in _OVER:
            raise AwsError("ConflictException", f"The job is {job.status}.")
        await self._finish(job, "Stopped")
        return {}

    def _job(self, named: str) -> _Job:
        for arn, job in self._jobs.items():
            if named in (arn, arn.rpartition("/")[2]):
                return job
        raise AwsError("ResourceNotFoundException", f"There is no model invocation job {named}.")

    async def _check(self, job: _Job) -> str | None:
        """Why it cannot run, from its input as it lies in S3."""
        least = self._jobs_world.batch.min_records
        uri = job.call.params["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        status, body = await self._s3("GET", uri)
        if status != 200:
            return f"The input {uri} cannot be read."
        try:
            job.lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            if not all(isinstance(line["modelInput"], dict) for line in job.lines):
                return "A record has no modelInput."
        except (ValueError, LookupError, TypeError):
            return "The input is not in the form of JSON lines."
        if len(job.lines) < least:
            return f"The input has {len(job.lines)} records; at least {least} are needed."
        return None

    async def _aged_job(self, job: _Job) -> _Job:
        world = self._jobs_world
        if job.status not in _OVER:
            hours = job.call.params.get("timeoutDurationInHours", 24)
            expires_at = job.submitted_at + hours * _HOUR_S
            if world.at() >= min(job.ends_at, expires_at):
                does_all = world.batch.does >= 1.0
                over = "Completed" if does_all else "PartiallyCompleted"
                await self._finish(job, over if job.ends_at <= expires_at else "Expired")
        return job

    async def _finish(self, job: _Job, status: str) -> None:
        """Write what was done, and bill it."""
        world = self._jobs_world
        share = world.batch.does
        if status != "Completed" and job.ends_at > job.submitted_at:
            ran = (world.at() - job.submitted_at) / (job.ends_at - job.submitted_at)
            share = min(share, ran)
        done = job.lines[: round(share * len(job.lines))]
        job.status, job.ended_at = status, world.at()
        out = b"".join([json.dumps(self._output(job, n, line)).encode() + b"\n" for n, line in enumerate(done)])
        params = job.call.params
        prefix = params["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].rstrip("/")
        name = params["inputDataConfig"]["s3InputDataConfig"]["s3Uri"].rpartition("/")[2]
        folder = f"{prefix}/{job.arn.rpartition('/')[2]}"
        manifest = {
            "totalRecordCount": len(job.lines),
            "processedRecordCount": len(done),
            "successRecordCount": job.success,
            "errorRecordCount": job.errors,
        }
        await self._s3("PUT", f"{folder}/{name}.out", out)
        await self._s3("PUT", f"{folder}/manifest.json.out", json.dumps(manifest).encode())

    def _output(self, job: _Job, number: int, line: Json) -> Json:
        world, params = self._jobs_world, job.call.params
        told: Json = {"recordId": line["recordId"], "modelInput": line["modelInput"]}
        if number in world.batch.failing:
            job.errors += 1
            return told | {"error": {"errorCode": 400, "errorMessage": "the double was told to"}}
        job.success += 1
        model = find_place(world, params["modelId"], 0).model
        asked = line["modelInput"]
        said = model.answer(Call("bedrock-runtime", "Converse", asked, job.call.region, job.call.account))
        taken = said.input_tokens if said.input_tokens is not None else _words(asked)
        given = said.output_tokens if said.output_tokens is not None else len(said.pieces)
        usd = world.batch.price * model.prices.usd(taken, 0, 0, given)
        world.bills.append(
            Bill(
                world.at(),
                "BatchRecord",
                model.id,
                params["modelId"],
                job.call.region,
                job.call.account,
                "batch",
                "standard",
                taken,
                given,
                0,
                0,
                usd,
            )
        )
        text = "".join(said.pieces)
        return told | {
            "modelOutput": {
                "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
                "stopReason": said.stop_reason,
                "usage": {"inputTokens": taken, "outputTokens": given, "totalTokens": taken + given},
                "metrics": {"latencyMs": 0},
            }
        }

    async def _told_job(self, job: _Job) -> Json:
        await self._aged_job(job)
        params = job.call.params
        told: dict[str, Any] = {
            name: params[name]
            for name in (
                "jobName",
                "modelId",
                "roleArn",
                "inputDataConfig",
                "outputDataConfig",
                "clientRequestToken",
                "timeoutDurationInHours",
                "modelInvocationType",
            )
            if name in params
        }
        told |= {"jobArn": job.arn, "status": job.status, "submitTime": time_of(job.submitted_at)}
        if job.message is not None:
            told["message"] = job.message
        if job.ended_at is not None:
            told |= {"endTime": time_of(job.ended_at), "lastModifiedTime": time_of(job.ended_at)}
            told |= {"totalRecordCount": len(job.lines), "processedRecordCount": job.success + job.errors}
            told |= {"successRecordCount": job.success, "errorRecordCount": job.errors}
        return told

    async def _s3(self, method: str, uri: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One object of moto's S3, which asks for a signature and does not check it."""
        base = self._jobs_world.s3_url
        if base is None:
            raise AwsError("ValidationException", "The double has no S3: start it with its stores.")
        url = f"{base}/{uri.removeprefix('s3://')}"
        async with aiohttp.ClientSession() as http, http.request(method, url, data=body, headers=_SIGNED) as answer:
            return answer.status, await answer.read()


def _words(asked: Json) -> int:
    """Input tokens as the double counts them: words of all texts."""
    turns: Iterable[Json] = [*asked.get("messages", ()), {"content": asked.get("system", ())}]
    return sum(len(block.get("text", "").split()) for turn in turns for block in turn["content"])
