"""Every way in which Bedrock refuses or breaks off, through the real SDK against the AWS double."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import Api, AwsTerms
from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
)
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from tests.integration.bedrock_calls import (
    attempt,
    failure,
    opened,
)

REFUSALS = {
    "AccessDeniedException": (Refused, "backend_forbidden"),
    "InternalServerException": (BackendError, "backend_error"),
    "ModelErrorException": (BackendError, "backend_error"),
    "ModelNotReadyException": (Overloaded, "backend_overloaded"),
    "ModelTimeoutException": (TimedOut, "timeout"),
    "ResourceNotFoundException": (Refused, "backend_forbidden"),
    "ServiceQuotaExceededException": (Throttled, "throttled"),
    "ServiceUnavailableException": (Overloaded, "backend_overloaded"),
    "ThrottlingException": (Throttled, "throttled"),
    "ValidationException": (Refused, "backend_refused"),
}
IN_STREAM = {
    "internalServerException": (BackendError, "backend_error"),
    "modelStreamErrorException": (ProtocolError, "protocol_error"),
    "validationException": (Refused, "backend_refused"),
    "throttlingException": (Throttled, "throttled"),
    "serviceUnavailableException": (Overloaded, "backend_overloaded"),
}


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double(World()) as one:
        yield one
        assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[BedrockBackend]:
    async with opened() as one:
        yield one


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("code", REFUSALS)
async def test_each_refusal_has_its_place_and_is_not_repeated(
    backend: BedrockBackend, double: AwsDouble, code: str, api: Api, stream: bool
) -> None:
    """Kind and code by the table; one call, since the deadline and the retries are the router's."""
    double.world.faults.append(Fault(code=code))
    error = await failure(backend, attempt(double, stream=stream, terms=AwsTerms(api=api)))
    assert (type(error), error.code) == REFUSALS[code]
    assert len(double.world.calls) == 1


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("code", IN_STREAM)
async def test_each_exception_in_a_stream_has_its_place(
    backend: BedrockBackend, double: AwsDouble, code: str, api: Api
) -> None:
    """After pieces have come the same table holds."""
    double.world.faults.append(Fault(How.EXCEPTION, code=code[0].upper() + code[1:], after=2))
    error = await failure(backend, attempt(double, terms=AwsTerms(api=api)))
    assert (type(error), error.code) == IN_STREAM[code]
