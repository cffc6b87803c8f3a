"""Every kind of backend keeps the promises of `router.ports.backend`: one suite over each, unasked.

A backend joins by a `Far` (the backend, its far side, and orders to that far side) and a line in `FAR_SIDES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from router.domain.decision import DecisionId
from router.domain.deployment import Deployment
from router.domain.errors import BackendError, Overloaded, Refused, Throttled, TimedOut, Unreachable
from router.domain.outcome import Attempt, AttemptId, Delta
from router.wire.openai import Envelope, assemble, read_request
from tests.conformance.backend_far_sides import FAR_SIDES, Far
from tests.conformance.bedrock_far_sides import BEDROCK_FAR_SIDES
from tests.conformance.sagemaker_far_sides import SAGEMAKER_FAR_SIDES

PATIENCE_S = 60.0
"""How long a far side may take to notice something before a test gives up."""


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


ALL_FAR_SIDES = FAR_SIDES | BEDROCK_FAR_SIDES | SAGEMAKER_FAR_SIDES


@pytest.fixture(params=ALL_FAR_SIDES)
async def far(request: pytest.FixtureRequest) -> AsyncIterator[Far]:
    async with ALL_FAR_SIDES[request.param]() as one:
        yield one
        await one.backend.close()


def attempt(to: Deployment, *, stream: bool = True, within_s: float | None = PATIENCE_S) -> Attempt:
    now = asyncio.get_running_loop().time()
    body = {"messages": [{"role": "user", "content": "Say something."}], "stream": stream}
    envelope = Envelope(id="r1", arrived=now, at=0.0, source="test")
    return Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(msgspec.json.encode(body), envelope),
        deployment=to,
        number=1,
        started=now,
        deadline=None if within_s is None else now + within_s,
        stream=stream,
    )


async def collect(far: Far, **how: bool | float | None) -> list[Delta]:
    async with asyncio.timeout(PATIENCE_S):
        return [delta async for delta in far.backend.open(attempt(far.deployment, **how))]


async def collect_until_error(far: Far, to: Deployment, **how: bool | float | None) -> tuple[list[Delta], Exception]:
    deltas: list[Delta] = []
    with pytest.raises(Exception) as caught:  # noqa: PT012  # any: which kind is the claim of each test
        async with asyncio.timeout(PATIENCE_S):
            async for delta in far.backend.open(attempt(to, **how)):
                deltas.append(delta)  # noqa: PERF401  # what came before the error counts
    return deltas, caught.value


async def nothing_served(far: Far) -> None:
    """Wait for the far side to notice that its caller has left; one that hangs for a caller ends no other way."""
    async with asyncio.timeout(PATIENCE_S):
        while far.serving():
            await asyncio.sleep(0.01)


def text_of(deltas: list[Delta]) -> str:
    """What the pieces say so far; `assemble` takes an unfinished answer too."""
    choices = msgspec.json.decode(assemble(deltas))
    return choices[0]["message"]["content"] if choices else ""


async def test_streams_in_order(far: Far) -> None:
    """The pieces of a stream, put together in order, are the text that the far side sent."""
    text = far.answers(12)
    assert text_of(await collect(far)) == text


async def test_long_answer(far: Far) -> None:
    """A long answer arrives whole, wherever the network cuts its bytes."""
    text = far.answers(1000)
    assert text_of(await collect(far)) == text


@pytest.mark.parametrize("stream", [True, False])
async def test_one_finish_reason(far: Far, stream: bool) -> None:
    """Exactly one piece carries the finish reason, and its choices say the same."""
    far.answers(4)
    deltas = await collect(far, stream=stream)
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert msgspec.json.decode(assemble(deltas))[0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_reported(far: Far, stream: bool) -> None:
    """One piece carries the tokens as the far side counted them, those from its cache among the input."""
    far.answers(7)
    asked = attempt(far.deployment, stream=stream)
    usages = [delta.usage async for delta in far.backend.open(asked) if delta.usage]
    assert usages == [far.accounts(asked.request)]


async def test_whole_answer_is_the_same(far: Far) -> None:
    """Without a stream, whole or in pieces, the assembled answer is the same as with one."""
    text = far.answers(9)
    whole = await collect(far, stream=False)
    streamed = await collect(far)
    assert text_of(whole) == text
    assert msgspec.json.decode(assemble(whole)) == msgspec.json.decode(assemble(streamed))


@pytest.mark.parametrize("stream", [True, False])
async def test_throttled(far: Far, stream: bool) -> None:
    """Over its rate is Throttled, with the seconds that the far side asks to wait."""
    seconds = far.throttles()
    deltas, error = await collect_until_error(far, far.deployment, stream=stream)
    assert isinstance(error, Throttled)
    assert (error.retry_after_s, deltas) == (seconds, [])


@pytest.mark.parametrize("stream", [True, False])
async def test_busy(far: Far, stream: bool) -> None:
    """Without capacity is Overloaded, and may be tried again."""
    far.is_busy()
    _, error = await collect_until_error(far, far.deployment, stream=stream)
    assert isinstance(error, Overloaded)
    assert error.retryable


@pytest.mark.parametrize("stream", [True, False])
async def test_bad_request(far: Far, stream: bool) -> None:
    """What the far side will not do for what is asked is Refused, and not to be tried again."""
    far.refuses()
    _, error = await collect_until_error(far, far.deployment, stream=stream)
    assert isinstance(error, Refused)
    assert not error.retryable


@pytest.mark.parametrize("stream", [True, False])
async def test_nobody_listens(far: Far, stream: bool) -> None:
    """No connection is Unreachable."""
    _, error = await collect_until_error(far, far.vacant, stream=stream)
    assert isinstance(error, Unreachable)


async def test_breaks_in_mid_stream(far: Far) -> None:
    """An answer that breaks off gives the pieces that came, then a BackendError that may be tried again."""
    text = far.answers(6)
    far.breaks(after=3)
    deltas, error = await collect_until_error(far, far.deployment)
    assert isinstance(error, BackendError)
    assert error.retryable
    assert 0 < len(text_of(deltas)) < len(text)
    assert text.startswith(text_of(deltas))
    assert not any(delta.finish_reason for delta in deltas)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["breaks", "garbles"])
async def test_only_backend_errors_escape(far: Far, fault: str, stream: bool) -> None:
    """Cut or garbled at the first byte of the answer, a call ends in a BackendError."""
    far.answers(6)
    getattr(far, fault)(after=0)
    _, error = await collect_until_error(far, far.deployment, stream=stream)
    assert isinstance(error, BackendError)


@pytest.mark.parametrize("stream", [True, False])
async def test_deadline_before_first_token(far: Far, stream: bool) -> None:
    """A deadline that passes before the first token is TimedOut, and the far side sees the caller leave."""
    far.needs_deadline()
    far.answers(6)
    await collect(far)
    far.hangs(after=0)
    _, error = await collect_until_error(far, far.deployment, stream=stream, within_s=0.3)
    assert isinstance(error, TimedOut)
    assert error.code == "timeout_deadline"
    await nothing_served(far)


async def test_deadline_in_mid_stream(far: Far) -> None:
    """A deadline that passes in mid-stream is TimedOut after the pieces that came."""
    far.needs_deadline()
    far.answers(6)
    await collect(far)
    far.hangs(after=2)
    for within_s in (0.5, 2.0, 8.0):  # a busy machine may need longer to bring a piece
        deltas, error = await collect_until_error(far, far.deployment, within_s=within_s)
        assert isinstance(error, TimedOut)
        if text_of(deltas):
            break
    assert text_of(deltas)
    await nothing_served(far)


async def test_closing_early_cancels(far: Far) -> None:
    """A piece comes before the answer is over; closing then ends the call upstream: the far side sees it."""
    far.answers(6)
    far.hangs(after=2)
    answer = far.backend.open(attempt(far.deployment))
    await anext(answer)
    await answer.aclose()
    await nothing_served(far)


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_the_caller_cancels(far: Far, stream: bool) -> None:
    """A caller cancelled while it waits for the first token leaves nothing running on the far side."""
    far.answers(6)
    far.hangs(after=0)
    task = asyncio.create_task(collect(far, stream=stream))
    while far.serving() == 0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nothing_served(far)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["throttles", "is_busy", "refuses", "breaks"])
async def test_never_retries(far: Far, fault: str, stream: bool) -> None:
    """A call that fails has been made once: trying again is the router's to decide."""
    far.answers(6)
    order = getattr(far, fault)
    order(2) if fault == "breaks" else order()
    await collect_until_error(far, far.deployment, stream=stream)
    assert far.calls() == 1


async def test_calls_do_not_disturb_each_other(far: Far) -> None:
    """Of many calls at once each gets its own answer, whole."""
    text = far.answers(20)
    answers = await asyncio.gather(*(collect(far) for _ in range(16)))
    assert {text_of(deltas) for deltas in answers} == {text}


async def test_serves_again_after_failures(far: Far) -> None:
    """After an abandoned call and a failed one the next is answered."""
    text = far.answers(6)
    far.hangs(after=1)
    answer = far.backend.open(attempt(far.deployment))
    await anext(answer)
    await answer.aclose()
    far.recovers()
    far.throttles()
    await collect_until_error(far, far.deployment)
    far.recovers()
    assert text_of(await collect(far)) == text
