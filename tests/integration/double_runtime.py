"""A double of Bedrock's runtime on a clock that passes only by being slept away, as tests use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from router.doubles.aws.models import (
    Model,
)
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World

SONNET = "anthropic.claude-sonnet-4-20250514-v1:0"


class Clock:
    """Time that passes only by being slept away."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@asynccontextmanager
async def standing(clock: Clock) -> AsyncIterator[AwsDouble]:
    """A double by this clock, which must not have drifted from the API at the end."""
    async with aws_double(World(now=clock.now, at=clock.now, sleep=clock.sleep)) as one:
        yield one
    assert one.world.drift == []


def has(double: AwsDouble, **qualities: Any) -> None:
    """The world has one model."""
    double.world.models[SONNET] = Model(SONNET, **qualities)


async def refused(call: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        await call
    said = caught.value.response
    return said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"], said["Error"]["Message"]


async def events(answer: Any, member: str = "stream") -> list[dict[str, Any]]:
    return [event async for event in answer[member]]
