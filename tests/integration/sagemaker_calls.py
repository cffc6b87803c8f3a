"""Calls of the SageMaker backend to an endpoint of a double, and what comes of them, as tests use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.backends.aws.sessions import Clients
from router.domain.aws.terms import AwsTerms, Payload
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import BackendError
from router.domain.outcome import Attempt, AttemptId, Delta
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint
from router.doubles.aws.server import AwsDouble
from router.wire.openai import Envelope, assemble, read_request

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
PAYLOADS = {"openai": AwsTerms(payload=Payload.OPENAI), "tgi": AwsTerms(payload=Payload.TGI)}


@asynccontextmanager
async def opened() -> AsyncIterator[SageMakerBackend]:
    """A backend with keys that the double takes, closed at the end."""
    one = SageMakerBackend(Clients(aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")))
    try:
        yield one
    finally:
        await one.close()


def endpoint(double: AwsDouble, **what: Any) -> Endpoint:
    """The endpoint that attempts are for, in place of the one before."""
    one = double.world.endpoints["e"] = Endpoint("e", **what)
    return one


def attempt(
    double: AwsDouble,
    body: dict[str, Any] | None = None,
    terms: AwsTerms | None = None,
    *,
    stream: bool = True,
    kind: Kind = Kind.CONTINUOUS,
    max_tokens: int | None = None,
) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.LARGE,
        kind=kind,
        address=Address("sagemaker", "e", url=double.url, region="eu-west-1", aws=terms),
        price=Price(1, 1),
    )
    payload = msgspec.json.encode(body or HI)
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=read_request(payload, Envelope(id="r", arrived=0.0, at=0.0, source="test")),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=asyncio.get_running_loop().time() + 60.0,
        stream=stream,
        max_tokens=max_tokens,
    )


async def pieces(backend: SageMakerBackend, to: Attempt) -> list[Delta]:
    return [delta async for delta in backend.open(to)]


def text_of(deltas: list[Delta]) -> str:
    (choice,) = msgspec.json.decode(assemble(deltas))
    said: str = choice["message"]["content"]
    return said


async def failure(backend: SageMakerBackend, to: Attempt) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await pieces(backend, to)
    return caught.value


def sent(double: AwsDouble) -> dict[str, Any]:
    """Parameters of the last call, and the JSON of its body as `Body`."""
    params = double.world.calls[-1].params
    return {**params, "Body": msgspec.json.decode(params["Body"])}
