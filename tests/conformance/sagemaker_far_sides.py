"""SageMaker for the conformance suite: an endpoint of the AWS double, in each payload that streams, through the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import aioboto3

from router.backends.aws.sagemaker import SageMakerBackend
from router.backends.aws.sessions import Clients
from router.domain.aws.terms import AwsTerms, Payload
from router.domain.deployment import Address
from router.domain.outcome import Usage
from router.domain.request import Request
from router.doubles.aws.models import Answer
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.server import AwsDouble, aws_double
from tests.conformance.aws_far_side import AwsFar
from tests.conformance.backend_far_sides import Far, _deployment, _pieces, _vacant_url

NAME = "endpoint"


class SageMakerFar(AwsFar):
    """`sagemaker`, through the real SDK, against an endpoint of the double on a loopback port."""

    busy, refused = "ServiceUnavailable", "ValidationError"

    def __init__(self, double: AwsDouble, payload: Payload) -> None:
        self.world = double.world
        self.payload = payload
        self.variant = Variant()
        self.world.endpoints[NAME] = Endpoint(NAME, payload, [self.variant])
        self.backend = SageMakerBackend(Clients(aioboto3.Session("test", "test")))
        terms = AwsTerms(payload=payload)
        self.deployment = _deployment(Address("sagemaker", NAME, url=double.url, region="eu-west-1", aws=terms))
        self.vacant = _deployment(Address("sagemaker", NAME, url=_vacant_url(), region="eu-west-1", aws=terms))

    def answers(self, n: int) -> str:
        pieces = _pieces(n)
        counted = (16, 5) if self.payload is Payload.OPENAI else (None, None)
        self.variant.says = Answer(pieces, input_tokens=counted[0], output_tokens=n, cache_read_tokens=counted[1])
        return "".join(pieces)

    def accounts(self, request: Request) -> Usage:
        assert isinstance(self.variant.says, Answer)
        answer = self.variant.says
        counted = request.input_tokens if answer.input_tokens is None else answer.input_tokens
        return Usage(counted, len(answer.pieces), answer.cache_read_tokens or 0)


@asynccontextmanager
async def _sagemaker(payload: Payload) -> AsyncIterator[Far]:
    async with aws_double() as double:
        yield SageMakerFar(double, payload)
    assert double.world.drift == []


SAGEMAKER_FAR_SIDES: dict[str, Callable[[], AbstractAsyncContextManager[Far]]] = {
    f"sagemaker_{payload}": partial(_sagemaker, payload) for payload in (Payload.OPENAI, Payload.TGI)
}
