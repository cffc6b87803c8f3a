"""Every way in which SageMaker refuses or breaks off, through the real SDK against the endpoints of the AWS double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.domain.errors import BackendError, Overloaded, ProtocolError, Refused, Throttled, TimedOut
from router.domain.outcome import Delta
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Answer
from router.doubles.aws.sagemaker_runtime.endpoint import Variant
from router.doubles.aws.server import AwsDouble, aws_double
from tests.integration.sagemaker_calls import PAYLOADS, attempt, endpoint, failure, opened

ERRORS: dict[str, tuple[Fault, type[BackendError]]] = {
    "throttling": (Fault(code="ThrottlingException", retry_after_s=7.0), Throttled),
    "model not ready": (Fault(code="ModelNotReadyException"), Overloaded),
    "service unavailable": (Fault(code="ServiceUnavailable"), Overloaded),
    "validation": (Fault(code="ValidationError"), Refused),
    "internal failure": (Fault(code="InternalFailure"), BackendError),
    "internal dependency": (Fault(code="InternalDependencyException"), Overloaded),
    "model error": (Fault(code="ModelError"), BackendError),
    "container throttles": (Fault(code="ModelError", fields={"OriginalStatusCode": 429}), Throttled),
    "container busy": (Fault(code="ModelError", fields={"OriginalStatusCode": 503}), Overloaded),
    "container too slow": (Fault(code="ModelError", fields={"OriginalStatusCode": 504}), TimedOut),
    "container refuses": (Fault(code="ModelError", fields={"OriginalStatusCode": 422}), Refused),
    "container fails": (Fault(code="ModelError", fields={"OriginalStatusCode": 500}), BackendError),
    "forbidden": (Fault(code="AccessDeniedException"), Refused),
}
IN_STREAM: dict[str, tuple[Fault, type[BackendError]]] = {
    "time exceeded": (
        Fault(
            How.EXCEPTION,
            "ModelStreamError",
            after=2,
            fields={"Message": "too slow", "ErrorCode": "ModelInvocationTimeExceeded"},
        ),
        TimedOut,
    ),
    "stream broken": (
        Fault(
            How.EXCEPTION,
            "ModelStreamError",
            after=2,
            fields={"Message": "connection lost", "ErrorCode": "StreamBroken"},
        ),
        ProtocolError,
    ),
    "internal": (Fault(How.EXCEPTION, "InternalStreamFailure", after=2), ProtocolError),
    "cut": (Fault(How.CUT, after=2), ProtocolError),
    "garbage": (Fault(How.GARBAGE, after=2), ProtocolError),
    "silent end": (Fault(How.SILENT_END, after=2), ProtocolError),
}


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one
    assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[SageMakerBackend]:
    async with opened() as one:
        yield one


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("row", ERRORS)
async def test_errors(double: AwsDouble, backend: SageMakerBackend, row: str, stream: bool) -> None:
    """Every modelled exception, as the SDK raises it, in the router's tree; called once."""
    fault, kind = ERRORS[row]
    double.world.faults.append(fault)
    error = await failure(backend, attempt(double, stream=stream))
    assert type(error) is kind
    assert error.retry_after_s == fault.retry_after_s
    assert len(double.world.calls) == 1


async def test_a_prompt_that_does_not_fit_is_told(double: AwsDouble, backend: SageMakerBackend) -> None:
    """By the container's words, so that it is not tried on the same window again."""
    said = "This model's maximum context length is 4096 tokens."
    double.world.faults.append(Fault(code="ModelError", message=said, fields={"OriginalStatusCode": 400}))
    error = await failure(backend, attempt(double))
    assert (type(error), error.code) == (Refused, "context_length_exceeded")


@pytest.mark.parametrize("row", IN_STREAM)
async def test_errors_in_the_stream(double: AwsDouble, backend: SageMakerBackend, row: str) -> None:
    """After the pieces that came; nothing says that the answer is complete."""
    fault, kind = IN_STREAM[row]
    endpoint(double, variants=[Variant(answer_tokens=20)])
    double.world.faults.append(fault)
    seen: list[Delta] = []
    with pytest.raises(BackendError) as caught:  # noqa: PT012  # a stream is read piece by piece
        async for delta in backend.open(attempt(double)):
            seen.append(delta)  # noqa: PERF401  # what came before the error counts
    assert type(caught.value) is kind
    assert sum(delta.tokens for delta in seen) == 2
    assert not any(delta.finish_reason for delta in seen)


async def test_what_the_container_streams_as_an_error(double: AwsDouble, backend: SageMakerBackend) -> None:
    """LMI answers 200 and says in the details that generating failed."""

    endpoint(double, payload="tgi", variants=[Variant(says=Answer(("a ",), stop_reason="error"))])
    for stream in (True, False):
        error = await failure(backend, attempt(double, terms=PAYLOADS["tgi"], stream=stream))
        assert type(error) is BackendError


async def test_cancelled_streams_free_their_connections(double: AwsDouble, backend: SageMakerBackend) -> None:
    """A hundred calls left after their first piece hold nothing at the far side."""
    endpoint(double)
    double.world.faults.append(Fault(How.HANG, after=2))
    for _ in range(100):
        answer = backend.open(attempt(double))
        await anext(answer)
        await answer.aclose()
    async with asyncio.timeout(60.0):
        while double.world.serving:
            await asyncio.sleep(0.01)
