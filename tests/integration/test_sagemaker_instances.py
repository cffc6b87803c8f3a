"""Who of an endpoint serves a call: variant, component, session, cold or warm; through the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from router.backends.aws.sagemaker import SageMakerBackend
from router.domain.aws.terms import AwsTerms
from router.domain.errors import Overloaded, Refused
from router.doubles.aws.models import Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Variant
from router.doubles.aws.server import AwsDouble, aws_double
from tests.integration.sagemaker_calls import HI, attempt, endpoint, failure, opened, pieces, sent, text_of

STICKY = AwsTerms(sticky=True)
OURS = {**HI, "metadata": {"session": "ours"}}


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
async def test_the_variant_that_served_is_told(double: AwsDouble, backend: SageMakerBackend, stream: bool) -> None:
    """The one that is asked for, else the one that the weights chose."""
    endpoint(double, variants=[Variant("blue", 3.0), Variant("green", 1.0)])
    named = await pieces(backend, attempt(double, terms=AwsTerms(variant="green"), stream=stream))
    assert {delta.served_as for delta in named if delta.served_as} == {"green"}
    assert sent(double)["TargetVariant"] == "green"
    seen = [await pieces(backend, attempt(double, stream=stream)) for _ in range(7)]
    assert [next(d.served_as for d in deltas if d.served_as) for deltas in seen].count("green") == 1


async def test_a_component_is_asked_for(double: AwsDouble, backend: SageMakerBackend) -> None:
    """By name, where an endpoint holds several models; without it such an endpoint refuses."""
    endpoint(double, components={"llama": "AllTraffic"})
    deltas = await pieces(backend, attempt(double, terms=AwsTerms(component="llama")))
    assert text_of(deltas)
    assert sent(double)["InferenceComponentName"] == "llama"
    assert isinstance(await failure(backend, attempt(double)), Refused)


async def test_a_cold_variant_is_loaded_once(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Before its first answer, and again when nobody has called it for a while; then it is as fast as it is."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    now = [0.0]
    double.world.sleep, double.world.now = sleep, lambda: now[0]
    endpoint(double, variants=[Variant(speed=Speed(0.2, 0.0, 0.05, cold_start_s=30.0, warm_s=60.0), answer_tokens=3)])
    for at in (0.0, 10.0, 71.0):
        now[0] = at
        await pieces(backend, attempt(double))
    assert slept == [30.0, 0.2, 0.05, 0.05, 0.2, 0.05, 0.05, 30.0, 0.2, 0.05, 0.05]


async def test_a_conversation_keeps_to_its_session(double: AwsDouble, backend: SageMakerBackend) -> None:
    """Its first turn opens one and comes whole, as only that operation opens sessions; the next are streamed from the
    same instance. Another conversation has a session of its own, and what names none is not sticky."""
    one = endpoint(double, stateful=True, variants=[Variant("blue"), Variant("green")])
    first = await pieces(backend, attempt(double, OURS, STICKY))
    assert sent(double)["SessionId"] == "NEW_SESSION"
    assert first[0].whole
    for _ in range(3):
        deltas = await pieces(backend, attempt(double, OURS, STICKY))
        assert sent(double)["SessionId"] in one.sessions
        assert not any(delta.whole for delta in deltas)
        assert deltas[0].served_as == first[0].served_as
    await pieces(backend, attempt(double, {**HI, "metadata": {"session": "theirs"}}, STICKY))
    assert len(one.sessions) == 2
    await pieces(backend, attempt(double, HI, STICKY))
    assert "SessionId" not in sent(double)


async def test_a_session_that_ended_is_opened_anew(double: AwsDouble, backend: SageMakerBackend) -> None:
    """The call that finds out may be tried again, and then opens another."""
    one = endpoint(double, stateful=True)
    await pieces(backend, attempt(double, OURS, STICKY))
    one.sessions.clear()
    error = await failure(backend, attempt(double, OURS, STICKY))
    assert isinstance(error, Overloaded)
    assert text_of(await pieces(backend, attempt(double, OURS, STICKY)))
    assert len(one.sessions) == 1
