"""What does the batch lane save? The same nightly requests with it and without it, through the real SDK.

`python -m bench.batch_lane` submits requests with a day to answer to a router in front of the AWS double, once with the
model on demand alone, once with batch jobs of the model beside it, and prints what the router booked, what the double
billed, and how long the answers took. Time is a clock that the benchmark moves; a job takes `JOB_S` of it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import aioboto3
import msgspec

from router.backends.aws.bedrock import BedrockBackend
from router.backends.aws.jobs.aws import AwsJobService
from router.backends.aws.jobs.backend import JobsBackend
from router.complexity.registry import shipped_prior
from router.domain.events import Event
from router.domain.outcome import Reply
from router.doubles.aws.models import Answer, Model, Prices
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World
from router.policy.compile import compile_policy
from router.runtime.dispatcher import Dispatcher
from router.storage.jobs.store import SqliteJobStore
from router.wire.openai import Envelope, read_request
from router.wiring import controller_for

REQUESTS, JOB_S, DAY_S, STEP_S = 200, 3 * 3600.0, 86_400.0, 60.0
MODEL = "anthropic.claude-3-5-haiku-20241022-v1:0"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
POLICY = """\
deployments:
  - {{name: now, model: haiku, tier: small, backend: bedrock, target: "{model}", region: us-east-1, url: "{url}",
     price_usd_per_mtok: {{input: 0.8, output: 4}}}}
{lane}class: {{name: nightly, goal: cost}}
"""
LANE = """\
  - {{name: night, model: haiku, tier: small, backend: bedrock, kind: job, target: "{model}", region: us-east-1,
     url: "{url}", price_usd_per_mtok: {{input: 0.4, output: 2}},
     job: {{s3: "s3://jobs/bench", role_arn: "arn:aws:iam::123456789012:role/batch"}}}}
"""


class Clock:
    """Seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def at(self) -> float:
        return 1_800_000_000.0 + self.time

    def stopwatch(self) -> float:
        return 0.0


class Silence:
    """Nobody is told."""

    def emit(self, event: Event) -> None:
        pass


async def night(*, with_lane: bool) -> tuple[float, float, int, float]:
    """Dollars the router booked and the double billed, jobs, and seconds until the last answer."""
    clock, world = Clock(), World()
    world.at, world.batch.takes_s = clock.at, JOB_S
    answer = Answer(pieces=("done",), input_tokens=2000, output_tokens=250)
    world.models = {MODEL: Model(MODEL, prices=Prices(0.8, 4.0), says=answer)}
    with tempfile.TemporaryDirectory() as folder:
        async with aws_double(world, stores=True) as double:
            os.environ["AWS_ENDPOINT_URL_S3"] = double.url
            async with aioboto3.Session(**KEYS).client("s3") as s3:
                await s3.create_bucket(Bucket="jobs")
            where = {"model": MODEL, "url": double.url}
            text = POLICY.format(lane=LANE.format(**where) if with_lane else "", **where)
            controller = controller_for(compile_policy([("p.yaml", text)]), shipped_prior(), rng=Random(0))
            store, service = SqliteJobStore(Path(folder) / "jobs"), AwsJobService(aioboto3.Session(**KEYS))
            jobs = JobsBackend(store, service, clock, lambda _: None, lambda: controller.policy.deployments)
            online = BedrockBackend(aioboto3.Session(**KEYS))
            router = Dispatcher(controller, {"bedrock": online, "bedrock_jobs": jobs}, clock, Silence())
            began = clock.time
            replies = await _answered(
                [asyncio.ensure_future(_ask(router, clock, n)) for n in range(REQUESTS)], jobs, clock
            )
            await jobs.close()
            await online.close()
    booked = sum(reply.receipt.cost_usd for reply in replies)
    made = sum(call.operation == "CreateModelInvocationJob" for call in world.calls)
    return booked, sum(bill.usd for bill in world.bills), made, clock.time - began


async def _ask(router: Dispatcher, clock: Clock, number: int) -> Reply:
    body = msgspec.json.encode({"messages": [{"role": "user", "content": f"Summarise document {number}"}]})
    envelope = Envelope(f"r{number}", clock.now(), clock.at(), "bench", deadline=clock.now() + DAY_S)
    return await router.submit(read_request(body, envelope))


async def _answered(asked: list[asyncio.Task[Reply]], jobs: JobsBackend, clock: Clock) -> list[Reply]:
    """Move the clock until all are answered."""
    await asyncio.wait(asked, timeout=2.0)
    while not all(task.done() for task in asked):
        clock.time += STEP_S
        await jobs.tick()
        await asyncio.sleep(0)
    return [task.result() for task in asked]


async def main() -> None:
    """Both nights, side by side."""
    rows: dict[str, Any] = {
        "on demand": await night(with_lane=False),
        "with the batch lane": await night(with_lane=True),
    }
    print(f"{REQUESTS} requests of 2,000 tokens in and 250 out, a day to answer each, jobs of {JOB_S / 3600:g} h")
    for name, (booked, billed, made, took_s) in rows.items():
        print(
            f"{name:20} booked USD {booked:.4f}  billed USD {billed:.4f}  jobs {made}  all there after {took_s:.0f} s"
        )


if __name__ == "__main__":
    asyncio.run(main())
