"""Batch jobs of the AWS double, through the real SDK: checked, run, billed and stopped as AWS does it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aioboto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from router.backends.aws.sessions import Clients
from router.domain.deployment import Address
from router.doubles.aws.models import Model, Prices
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import Provisioned, World

MODEL = "amazon.nova-lite-v1:0"
PT = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"


class Aws(NamedTuple):
    """Clients of one double, and its clock."""

    bedrock: Any
    s3: Any
    world: World
    clock: list[float]

    async def put(self, lines: int) -> None:
        line = {"modelInput": {"messages": [{"role": "user", "content": [{"text": "one two"}]}]}}
        body = "\n".join(json.dumps({"recordId": f"R{n}", **line}) for n in range(lines))
        await self.s3.put_object(Bucket="jobs", Key="in/records.jsonl", Body=body.encode())

    async def create(self, name: str = "job", **more: Any) -> str:
        answer = await self.bedrock.create_model_invocation_job(
            jobName=name,
            roleArn="arn:aws:iam::123456789012:role/batch",
            modelId=more.pop("modelId", MODEL),
            inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://jobs/in/records.jsonl"}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://jobs/out/"}},
            **more,
        )
        return str(answer["jobArn"])

    async def job(self, arn: str) -> Any:
        return await self.bedrock.get_model_invocation_job(jobIdentifier=arn)

    async def output(self) -> dict[str, bytes]:
        listed = await self.s3.list_objects_v2(Bucket="jobs", Prefix="out/")
        found = {}
        for one in listed.get("Contents", ()):
            answer = await self.s3.get_object(Bucket="jobs", Key=one["Key"])
            found[one["Key"].rpartition("/")[2]] = await answer["Body"].read()
        return found


@pytest.fixture
async def aws() -> AsyncIterator[Aws]:
    clock = [1_800_000_000.0]
    world = World(at=lambda: clock[0])
    world.models = {MODEL: Model(MODEL, prices=Prices(1.0, 4.0), answer_tokens=3)}
    world.batch.takes_s = 600.0
    clients = Clients(aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test"))
    async with aws_double(world, stores=True) as double:
        address = Address("bedrock", MODEL, url=double.url, region="us-east-1")
        bedrock, s3 = await clients.client("bedrock", address), await clients.client("s3", address)
        await s3.create_bucket(Bucket="jobs")
        yield Aws(bedrock, s3, world, clock)
        await clients.close()
    assert world.drift == []


async def test_a_job_runs_for_its_time_and_bills_half(aws: Aws) -> None:
    """Answers under the ids of their records, a manifest beside them, counts, and half the price of a call."""
    await aws.put(100)
    arn = await aws.create(modelInvocationType="Converse")
    assert (await aws.job(arn))["status"] == "InProgress"
    assert (await aws.output(), list(aws.world.bills)) == ({}, [])
    aws.clock[0] += 600.0
    done = await aws.job(arn)
    assert (done["status"], done["totalRecordCount"], done["successRecordCount"]) == ("Completed", 100, 100)
    output = await aws.output()
    lines = [json.loads(line) for line in output["records.jsonl.out"].splitlines()]
    assert [line["recordId"] for line in lines] == [f"R{n}" for n in range(100)]
    assert lines[0]["modelOutput"]["usage"] == {"inputTokens": 2, "outputTokens": 3, "totalTokens": 5}
    assert json.loads(output["manifest.json.out"])["successRecordCount"] == 100
    assert sum(bill.usd for bill in aws.world.bills) == pytest.approx(100 * 0.5 * (2 * 1.0 + 3 * 4.0) * 1e-6)


@pytest.mark.parametrize(("lines", "says"), [(99, "at least 100"), (None, "cannot be read")])
async def test_input_that_is_no_good_fails_the_job(aws: Aws, lines: int | None, says: str) -> None:
    """Too few records, or none to be found: Failed with a message, and nothing is billed."""
    if lines is not None:
        await aws.put(lines)
    job = await aws.job(await aws.create())
    assert job["status"] == "Failed"
    assert says in job["message"]
    aws.clock[0] += 600.0
    assert (await aws.output(), list(aws.world.bills)) == ({}, [])


async def test_a_job_takes_profiles_but_nothing_reserved(aws: Aws) -> None:
    """Inference profiles mean their model; provisioned throughput is refused, as the service model says."""
    await aws.put(100)
    crossing = await aws.create("crossing", modelId=f"us.{MODEL}")
    aws.clock[0] += 601.0
    assert (await aws.job(crossing))["status"] == "Completed"
    held = aws.world.provisioned[PT] = Provisioned(PT, "floor", MODEL)
    with pytest.raises(ClientError, match="ValidationException"):
        await aws.create("reserved", modelId=held.arn)


async def test_a_token_makes_one_job(aws: Aws) -> None:
    """The same again is the same job; another token with the name of a job is a conflict."""
    await aws.put(100)
    first = await aws.create(clientRequestToken="one")
    assert await aws.create(clientRequestToken="one") == first
    with pytest.raises(ClientError, match="ConflictException"):
        await aws.create(clientRequestToken="two")
    listed = await aws.bedrock.list_model_invocation_jobs(nameContains="jo", statusEquals="InProgress")
    assert [job["jobArn"] for job in listed["invocationJobSummaries"]] == [first]
    assert (await aws.bedrock.list_model_invocation_jobs(nameContains="x"))["invocationJobSummaries"] == []


async def test_a_stopped_job_leaves_what_it_did_and_bills_that(aws: Aws) -> None:
    """Half of the time, half of the records; it cannot be stopped twice."""
    await aws.put(100)
    arn = await aws.create()
    aws.clock[0] += 300.0
    await aws.bedrock.stop_model_invocation_job(jobIdentifier=arn)
    job = await aws.job(arn)
    assert (job["status"], job["processedRecordCount"], len(aws.world.bills)) == ("Stopped", 50, 50)
    with pytest.raises(ClientError, match="ConflictException"):
        await aws.bedrock.stop_model_invocation_job(jobIdentifier=arn)


async def test_a_job_that_takes_too_long_expires(aws: Aws) -> None:
    """After its time-out; the records done by then are there."""
    aws.world.batch.takes_s = 48 * 3600.0
    await aws.put(100)
    arn = await aws.create(timeoutDurationInHours=24)
    aws.clock[0] += 24 * 3600.0
    job = await aws.job(arn)
    assert (job["status"], job["processedRecordCount"]) == ("Expired", 50)


@pytest.mark.parametrize("hours", [23, 169])
async def test_a_time_out_has_bounds(aws: Aws, hours: int) -> None:
    """From 24 to 168 hours, as the service model says."""
    with pytest.raises((ClientError, ParamValidationError), match="timeoutDurationInHours"):
        await aws.create(timeoutDurationInHours=hours)


async def test_a_job_that_is_not_there_is_not_found(aws: Aws) -> None:
    """By a well-formed id."""
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await aws.job("abcdefghij12")
