"""Lists of requests in one call of a SageMaker endpoint, through the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.domain.deployment import Kind
from router.domain.errors import Overloaded, Refused
from router.domain.outcome import Delta
from router.doubles.aws.faults import Fault
from router.doubles.aws.models import Answer
from router.doubles.aws.sagemaker_runtime.endpoint import Variant
from router.doubles.aws.server import AwsDouble, aws_double
from tests.integration.sagemaker_calls import PAYLOADS, attempt, endpoint, opened, sent, text_of


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one
    assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[SageMakerBackend]:
    async with opened() as one:
        yield one


async def test_a_batch_is_one_call(double: AwsDouble, backend: SageMakerBackend) -> None:
    """A list of inputs, and an answer to each in order."""
    endpoint(double, payload="jumpstart", variants=[Variant("v", answer_tokens=3)])
    prompts = [{"messages": [{"role": "user", "content": f"number {i}"}]} for i in range(4)]
    batch = tuple(attempt(double, body, kind=Kind.BATCH, max_tokens=5) for body in prompts)
    deltas = [one for one in await backend.run_batch(batch) if isinstance(one, Delta)]
    assert sent(double)["Body"]["inputs"] == [f"User: number {i}\n\nAssistant:" for i in range(4)]
    assert len(double.world.calls) == 1
    assert [(d.whole, d.finish_reason, d.served_as) for d in deltas] == [(True, "stop", "v")] * 4


async def test_parameters_hold_for_a_whole_list(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Those who ask for others go in a call of their own, and the answers are in order all the same."""
    names = iter("acb")
    endpoint(double, payload="jumpstart", variants=[Variant(says=lambda call: Answer((next(names),)))])
    bounds = (5, 9, 5)
    deltas = await backend.run_batch(tuple(attempt(double, kind=Kind.BATCH, max_tokens=n) for n in bounds))
    assert [text_of([delta]) for delta in deltas if isinstance(delta, Delta)] == ["a", "b", "c"]
    assert len(double.world.calls) == 2


async def test_what_was_answered_before_a_later_call_failed_is_given_out(
    double: AwsDouble, backend: SageMakerBackend
) -> None:
    """The first list is answered and paid: only those of the second have an error."""
    calls = iter((Answer(("a",)), Answer(("b",))))

    def says(call: Any) -> Answer:
        answer = next(calls)
        double.world.faults.append(Fault(code="ServiceUnavailable", times=1))
        return answer

    endpoint(double, payload="jumpstart", variants=[Variant(says=says)])
    batch = tuple(attempt(double, kind=Kind.BATCH, max_tokens=n) for n in (5, 9))
    first, second = await backend.run_batch(batch)
    assert isinstance(first, Delta)
    assert text_of([first]) == "a"
    assert isinstance(second, Overloaded)


async def test_a_batch_that_fails_says_so(double: AwsDouble, backend: SageMakerBackend) -> None:
    """As a whole; so does an endpoint that gives fewer answers than it was asked for."""
    endpoint(double, payload="jumpstart")
    double.world.faults.append(Fault(code="ServiceUnavailable", times=1))
    with pytest.raises(Overloaded):
        await backend.run_batch((attempt(double, kind=Kind.BATCH),))
    with pytest.raises(Refused, match="jumpstart"):
        await backend.run_batch((attempt(double, terms=PAYLOADS["openai"], kind=Kind.BATCH),))
