"""`router.backends.aws.bedrock` and its double, through the real SDK over loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import (
    BackendError,
    Overloaded,
    ProtocolError,
    Refused,
    Throttled,
    TimedOut,
)
from router.domain.outcome import Attempt, AttemptId, Delta
from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import Answer, Model, Speed, ToolUse
from router.doubles.aws.server import AwsDouble, aws_double
from router.wire.openai import Envelope, assemble, read_request

ARN = "arn:aws:bedrock:eu-west-1:123456789012:provisioned-model/abcdefghij12"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def session() -> aioboto3.Session:
    return aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


@pytest.fixture
async def double() -> AsyncIterator[AwsDouble]:
    async with aws_double() as one:
        yield one


@pytest.fixture
async def backend() -> AsyncIterator[BedrockBackend]:
    one = BedrockBackend(session())
    yield one
    await one.close()


def attempt(
    double: AwsDouble,
    body: dict[str, Any] | None = None,
    *,
    target: str = ARN,
    region: str | None = "eu-west-1",
    stream: bool = True,
) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.LARGE,
        kind=Kind.PROVISIONED,
        address=Address("bedrock", target, url=double.url, region=region),
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
    )


async def answer(backend: BedrockBackend, to: Attempt) -> dict[str, Any]:
    deltas: list[Delta] = [delta async for delta in backend.open(to)]
    (choice,) = msgspec.json.decode(assemble(deltas))
    return choice


async def failure(backend: BedrockBackend, to: Attempt) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await answer(backend, to)
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", Throttled),
        ("ModelNotReadyException", Overloaded),
        ("ServiceUnavailableException", Overloaded),
        ("ModelTimeoutException", TimedOut),
        ("ModelErrorException", BackendError),
        ("InternalServerException", BackendError),
        ("ValidationException", Refused),
        ("AccessDeniedException", Refused),
        ("ResourceNotFoundException", Refused),
    ],
)
async def test_refusals(backend: BedrockBackend, double: AwsDouble, code: str, kind: type[BackendError]) -> None:
    """Every exception that Converse can answer with arrives as its error, after a single call."""
    double.world.faults[:] = [Fault(code=code, message="because")]
    for stream in (True, False):
        error = await failure(backend, attempt(double, stream=stream))
        assert (type(error), error.message) == (kind, f"{code}: because")
    assert [call.operation for call in double.world.calls] == ["ConverseStream", "Converse"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("internalServerException", BackendError),
        ("modelStreamErrorException", ProtocolError),
        ("validationException", Refused),
        ("throttlingException", Throttled),
        ("serviceUnavailableException", Overloaded),
    ],
)
async def test_exceptions_in_the_stream(
    backend: BedrockBackend, double: AwsDouble, name: str, kind: type[BackendError]
) -> None:
    """An exception in mid-stream comes as its error, after the pieces before it."""
    double.world.faults[:] = [Fault(How.EXCEPTION, name, after=2)]
    pieces = []
    with pytest.raises(BackendError) as caught:  # noqa: PT012  # it fails in mid-loop
        async for delta in backend.open(attempt(double)):
            pieces.append(delta)  # noqa: PERF401  # what came before the error counts
    assert type(caught.value) is kind
    assert sum(delta.tokens > 0 for delta in pieces) == 2


@pytest.mark.parametrize("how", [How.CUT, How.GARBAGE, How.SILENT_END])
async def test_broken_streams(backend: BedrockBackend, double: AwsDouble, how: How) -> None:
    """A stream that is cut, turns to garbage, or ends without a stop reason is a ProtocolError."""
    double.world.faults[:] = [Fault(how, after=2)]
    assert type(await failure(backend, attempt(double))) is ProtocolError


@pytest.mark.parametrize("target", [ARN, "meta.llama3-1-8b-instruct-v1:0", "eu.amazon.nova-lite-v1:0"])
async def test_any_model_id(backend: BedrockBackend, double: AwsDouble, target: str) -> None:
    """Provisioned ARN, on-demand id and inference profile reach Bedrock as they stand in the policy."""
    await answer(backend, attempt(double, target=target))
    await answer(backend, attempt(double, target=target, stream=False))
    assert [call.params["modelId"] for call in double.world.calls] == [target, target]


async def test_region_of_the_address(backend: BedrockBackend, double: AwsDouble) -> None:
    """Calls are signed for the region of the deployment's address."""
    for region in ("eu-west-1", "us-east-1"):
        await answer(backend, attempt(double, region=region))
    assert [call.region for call in double.world.calls] == ["eu-west-1", "us-east-1"]


async def test_everything_in_one_request(backend: BedrockBackend, double: AwsDouble) -> None:
    """A request with system prompt, picture, tools and parameters passes the service model and gets its answer."""
    double.world.default = Model(
        "m", says=Answer((), tools=(ToolUse("t1", "now", ('{"zo', 'ne":"CET"}')),), stop_reason="tool_use")
    )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "When?"}, picture]},
        ],
        "tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}],
        "temperature": 0.2,
        "max_tokens": 50,
        "stop": ["x"],
    }
    choice = await answer(backend, attempt(double, body))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "now", "arguments": '{"zone":"CET"}'}
    assert await answer(backend, attempt(double, body, stream=False)) == choice


async def test_token_bound_is_honoured(backend: BedrockBackend, double: AwsDouble) -> None:
    """The double stops at maxTokens and says so, and the answer's finish reason is `length`."""
    choice = await answer(backend, attempt(double, {**HI, "max_tokens": 3}))
    assert (choice["message"]["content"], choice["finish_reason"]) == ("word0 word1 word2 ", "length")


async def test_what_converse_cannot_say_makes_no_call(backend: BedrockBackend, double: AwsDouble) -> None:
    """A request that Converse cannot express is refused without a call."""
    assert (await failure(backend, attempt(double, {**HI, "n": 3}))).code == "unsupported"
    assert list(double.world.calls) == []


async def test_no_credentials(double: AwsDouble) -> None:
    """Without credentials a call is forbidden, as with the wrong ones: the sender can do nothing about it."""
    backend = BedrockBackend(aioboto3.Session())
    try:
        assert (await failure(backend, attempt(double))).code == "backend_forbidden"
    finally:
        await backend.close()


async def test_bad_endpoint(backend: BedrockBackend, double: AwsDouble) -> None:
    """An endpoint that is no URL fails as a BackendError too."""
    double.url = "not a url"
    await failure(backend, attempt(double))


async def test_abandoned_streams_hold_no_connection(backend: BedrockBackend, double: AwsDouble) -> None:
    """Of fifty streams abandoned after their first piece not one is still being served."""
    double.world.faults[:] = [Fault(How.HANG, after=1)]

    async def abandon() -> None:
        stream = backend.open(attempt(double))
        await anext(stream)
        await stream.aclose()

    await asyncio.gather(*(abandon() for _ in range(50)))
    for _ in range(50):
        await asyncio.wait_for(double.world.gone.acquire(), 60)
    assert double.world.serving == 0


async def test_answers_after_close(backend: BedrockBackend, double: AwsDouble) -> None:
    """Closing frees every client; closing twice is harmless."""
    await answer(backend, attempt(double))
    await backend.close()
    await backend.close()


async def test_double_is_slow_where_told(backend: BedrockBackend, double: AwsDouble) -> None:
    """A slow first token passes a deadline that stands before it."""
    double.world.default = Model("slow", speed=Speed(first_token_s=30.0))
    hasty = msgspec.structs.replace(attempt(double), deadline=asyncio.get_running_loop().time() + 0.2)
    assert (await failure(backend, hasty)).code == "timeout_deadline"
