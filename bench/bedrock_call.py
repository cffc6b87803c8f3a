"""What does a Converse call cost through the router's backend, over a bare aioboto3 client?

    python -m bench.bedrock_call [--calls 600] [--concurrency 16] [--rounds 5]

The AWS double answers in a process of its own. Both clients have the same connections and no retries; rounds of the
two take turns, so that what else the machine does falls on both. Printed are the median time of a call alone (one at a
time), the CPU time of this process for each call (`--concurrency` at once), and the ratio of ours to bare: for a whole
answer of 50 words, and for a stream of 50 pieces of which every one is read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import aioboto3
import msgspec
from aiobotocore.config import AioConfig

from router.backends.aws.bedrock import BedrockBackend
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.outcome import Attempt, AttemptId
from router.doubles.aws.models import Model, words
from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World
from router.wire.openai import Envelope, read_request

_PIECES = 50
_MODEL = "anthropic.claude-3-5-haiku-20241022-v1:0"
_REGION = "eu-west-1"
_PROMPT = "Say something about the weather. " * 20
Call = Callable[[], Awaitable[None]]


async def serve() -> None:
    """Print the double's address, and serve until the end of the input."""
    async with aws_double(World(default=Model("default", says=words(_PIECES)))) as double:
        print(double.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def session() -> aioboto3.Session:
    """Keys that nobody checks."""
    return aioboto3.Session(aws_access_key_id="bench", aws_secret_access_key="bench")


def attempt(url: str, *, stream: bool) -> Attempt:
    """A call of a class without parameters, as a client's body asks for it."""
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock", _MODEL, url=url, region=_REGION),
        price=Price(1, 1),
    )
    payload = msgspec.json.encode({"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 100})
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=read_request(payload, Envelope(id="r", arrived=0.0, at=0.0, source="bench")),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=asyncio.get_running_loop().time() + 600.0,
        stream=stream,
    )


def ours(backend: BedrockBackend, asked: Attempt) -> Call:
    """One call through the backend."""

    async def call() -> None:
        async for _ in backend.open(asked):
            pass

    return call


def bare(client: Any, *, stream: bool) -> Call:
    """The same call by the SDK alone: the arguments are ready, and the answer is read and dropped."""
    asked: dict[str, Any] = {
        "modelId": _MODEL,
        "messages": [{"role": "user", "content": [{"text": _PROMPT}]}],
        "inferenceConfig": {"maxTokens": 100},
    }

    async def whole() -> None:
        await client.converse(**asked)

    async def streamed() -> None:
        response = await client.converse_stream(**asked)
        async for _ in response["stream"]:
            pass

    return streamed if stream else whole


async def one_by_one(call: Call, calls: int) -> float:
    """Median milliseconds of a call when nothing else is under way."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return median(took) * 1e3


async def at_once(call: Call, calls: int, concurrency: int) -> float:
    """Microseconds of this process's CPU for each call, with so many at once."""

    async def some() -> None:
        for _ in range(calls // concurrency):
            await call()

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(concurrency)))
    return (time.process_time() - began) / (calls // concurrency * concurrency) * 1e6


async def compare(url: str, options: argparse.Namespace) -> None:
    """Measure both and print the table."""
    backend = BedrockBackend(session())
    config = AioConfig(retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=4096)
    print(f"{'':24}{'bare':>10}{'ours':>10}{'ours/bare':>11}")
    async with session().client("bedrock-runtime", _REGION, endpoint_url=url, config=config) as client:
        for stream in (False, True):
            pair = (bare(client, stream=stream), ours(backend, attempt(url, stream=stream)))
            alone, busy = [], []
            for call in pair:
                await at_once(call, options.concurrency * 2, options.concurrency)
            for _ in range(options.rounds):
                alone.append([await one_by_one(call, options.calls // 4) for call in pair])
                busy.append([await at_once(call, options.calls, options.concurrency) for call in pair])
            name = f"stream of {_PIECES}" if stream else "whole answer"
            for what, unit, rounds in (("p50", "ms", alone), ("CPU", "us", busy)):
                before, after = (median(round_[i] for round_ in rounds) for i in (0, 1))
                print(f"{name + ', ' + what:<20} {unit:<3}{before:>10.2f}{after:>10.2f}{after / before:>11.3f}")
    await backend.close()


def main() -> None:
    """Start the double, compare, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=600, help="calls in a round")
    parser.add_argument("--concurrency", type=int, default=16, help="calls at once where CPU is measured")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each client")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    os.environ["NO_PROXY"] = "127.0.0.1"
    command = [sys.executable, "-m", "bench.bedrock_call", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as double:
        if double.stdout is None:
            raise RuntimeError("the double has no output")
        asyncio.run(compare(double.stdout.readline().strip(), options))
        double.communicate()


if __name__ == "__main__":
    main()
