"""Calls of the Bedrock backend to a double, and what comes of them, as tests use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import AwsTerms
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import (
    BackendError,
)
from router.domain.outcome import Attempt, AttemptId, Delta
from router.doubles.aws.server import AwsDouble
from router.wire.openai import Envelope, assemble, read_request

CLAUDE = "anthropic.claude-3-5-haiku-20241022-v1:0"
PATIENCE_S = 60.0


def session() -> aioboto3.Session:
    return aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[BedrockBackend]:
    """A backend with keys that the double takes, closed at the end."""
    one = BedrockBackend(session(), **options)
    try:
        yield one
    finally:
        await one.close()


def attempt(
    double: AwsDouble,
    *,
    target: str = CLAUDE,
    stream: bool = True,
    terms: AwsTerms | None = None,
    within_s: float = PATIENCE_S,
    body: dict[str, Any] | None = None,
    **deployment: Any,
) -> Attempt:
    to = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock", target, url=double.url, region="eu-west-1", aws=terms),
        price=Price(1, 1),
        **deployment,
    )
    payload = msgspec.json.encode({"messages": [{"role": "user", "content": "Say something."}], **(body or {})})
    now = asyncio.get_running_loop().time()
    return Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(payload, Envelope(id="r1", arrived=now, at=0.0, source="test")),
        deployment=to,
        number=1,
        started=now,
        deadline=now + within_s,
        stream=stream,
    )


async def answer(backend: BedrockBackend, asked: Attempt) -> list[Delta]:
    return [delta async for delta in backend.open(asked)]


async def failure(backend: BedrockBackend, asked: Attempt) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await answer(backend, asked)
    return caught.value


def text_of(deltas: list[Delta]) -> str:
    text: str = msgspec.json.decode(assemble(deltas))[0]["message"]["content"]
    return text


def served_as(deltas: list[Delta]) -> set[str]:
    return {delta.served_as for delta in deltas if delta.served_as}


def last_params(double: AwsDouble) -> dict[str, Any]:
    return double.world.calls[-1].params
