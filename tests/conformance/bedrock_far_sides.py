"""Bedrock for the conformance suite: a model of the AWS double, by Converse and by InvokeModel, through the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import aioboto3

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import Api, AwsTerms
from router.domain.deployment import Address
from router.domain.outcome import Usage
from router.domain.request import Request
from router.doubles.aws.models import Answer, Model
from router.doubles.aws.server import AwsDouble, aws_double
from tests.conformance.aws_far_side import AwsFar
from tests.conformance.backend_far_sides import Far, _deployment, _pieces, _vacant_url

MODEL = "anthropic.claude-3-5-haiku-20241022-v1:0"
_LEAD = 2
"""Chunks of a stream of the Messages API before its first piece: the message and its first block begin."""


class BedrockFar(AwsFar):
    """`bedrock`, through the real SDK, against a model of the double on a loopback port."""

    busy, refused = "ServiceUnavailableException", "ValidationException"

    def __init__(self, double: AwsDouble, api: Api) -> None:
        self.world = double.world
        self.lead = _LEAD if api is Api.INVOKE else 0
        self.backend = BedrockBackend(aioboto3.Session("test", "test"))
        terms = AwsTerms(api=api)
        self.deployment = _deployment(Address("bedrock", MODEL, url=double.url, region="eu-west-1", aws=terms))
        self.vacant = _deployment(Address("bedrock", MODEL, url=_vacant_url(), region="eu-west-1", aws=terms))

    def answers(self, n: int) -> str:
        pieces = _pieces(n)
        self.answer = Answer(pieces, input_tokens=11, output_tokens=n, cache_read_tokens=5)
        self.world.default = Model("default", says=self.answer)
        return "".join(pieces)

    def accounts(self, request: Request) -> Usage:
        return Usage(input_tokens=16, output_tokens=len(self.answer.pieces), cached_tokens=5)


@asynccontextmanager
async def _bedrock(api: Api) -> AsyncIterator[Far]:
    async with aws_double() as double:
        yield BedrockFar(double, api)
        assert double.world.drift == []


BEDROCK_FAR_SIDES: dict[str, Callable[[], AbstractAsyncContextManager[Far]]] = {
    f"bedrock_{api}": partial(_bedrock, api) for api in Api
}
