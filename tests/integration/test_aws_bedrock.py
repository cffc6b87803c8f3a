"""What Bedrock can be asked for, through the real SDK against the AWS double on a loopback port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aioboto3
import msgspec
import pytest

from router.backends.aws.bedrock import BedrockBackend
from router.domain.aws.terms import Api, AwsTerms, Guardrail, Latency
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Tier
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
from router.doubles.aws.models import Answer, Model, Optimized, PromptRouter, Quota, ToolUse, words
from router.doubles.aws.models import Guardrail as GuardrailThere
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import World
from router.wire.openai import Envelope, assemble, read_request

CLAUDE = "anthropic.claude-3-5-haiku-20241022-v1:0"
FAMILIES = (
    CLAUDE,
    "meta.llama3-1-8b-instruct-v1:0",
    "mistral.mistral-7b-instruct-v0:2",
    "amazon.titan-text-express-v1",
    "amazon.nova-lite-v1:0",
    "openai.gpt-oss-20b-1:0",
)
ROLE = "arn:aws:iam::210987654321:role/router"
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def double(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsDouble]:
    async with aws_double(World()) as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", one.url)
        yield one
        assert one.world.drift == []


@pytest.fixture
async def backend() -> AsyncIterator[BedrockBackend]:
    one = BedrockBackend(session())
    yield one
    await one.close()


def session() -> aioboto3.Session:
    return aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test")


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


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("target", FAMILIES)
async def test_every_family_answers_through_invoke(
    backend: BedrockBackend, double: AwsDouble, target: str, stream: bool
) -> None:
    """InvokeModel and its stream give the text, one finish reason, and the tokens that were billed."""
    double.world.default = Model("default", says=words(6))
    deltas = await answer(backend, attempt(double, target=target, stream=stream, terms=AwsTerms(api=Api.INVOKE)))
    assert text_of(deltas).split() == [f"word{i}" for i in range(6)]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    (usage,) = [delta.usage for delta in deltas if delta.usage]
    (bill,) = double.world.bills
    assert (usage.input_tokens, usage.output_tokens) == (bill.input_tokens, bill.output_tokens)
    operation = "InvokeModelWithResponseStream" if stream else "InvokeModel"
    assert double.world.calls[-1].operation == operation


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("lane", [Lane.PRIORITY, Lane.FLEX, Lane.RESERVED])
async def test_a_lane_is_a_service_tier(
    backend: BedrockBackend, double: AwsDouble, lane: Lane, api: Api, stream: bool
) -> None:
    """It is asked for, served and billed, and what was served is read back."""
    deltas = await answer(backend, attempt(double, stream=stream, terms=AwsTerms(api=api), lane=lane))
    assert served_as(deltas) == {lane.value}
    assert double.world.bills[-1].tier == lane.value


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
async def test_optimised_over_its_quota_is_told_as_standard(
    backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool
) -> None:
    """The first call is served optimised; the second silently is not, and is recorded so."""
    double.world.default = Model("default", optimized=Optimized(quota=Quota(requests_per_min=1)))
    asked = attempt(double, stream=stream, terms=AwsTerms(api=api, latency=Latency.OPTIMIZED))
    assert served_as(await answer(backend, asked)) == {"optimized"}
    assert served_as(await answer(backend, asked)) == {"standard"}
    assert [bill.latency for bill in double.world.bills] == ["optimized", "standard"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", Api)
async def test_a_guardrail_stands_before_the_model(
    backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool
) -> None:
    """What it blocks ends as filtered, with the guardrail's words."""
    double.world.guardrails["gr1"] = GuardrailThere(words=("something",), message="No.")
    terms = AwsTerms(api=api, guardrail=Guardrail("gr1", "1"))
    deltas = await answer(backend, attempt(double, stream=stream, terms=terms))
    assert text_of(deltas) == "No."
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["content_filter"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_prompt_router_says_whom_it_invoked(backend: BedrockBackend, double: AwsDouble, stream: bool) -> None:
    """The model that answered is told with the answer, so that it can be priced."""
    arn = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/nova:1"
    small, large = (f"arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-{size}-v1:0" for size in ("lite", "pro"))
    double.world.prompt_routers[arn] = PromptRouter((small, large))
    deltas = await answer(backend, attempt(double, target=arn, stream=stream))
    assert {delta.served_model for delta in deltas if delta.served_model} == {small}


async def test_an_inference_profile_of_the_account(backend: BedrockBackend, double: AwsDouble) -> None:
    """Its ARN goes out as the model id; so does one of AWS's across regions."""
    arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"
    double.world.profiles[arn] = CLAUDE
    await answer(backend, attempt(double, target=arn))
    await answer(backend, attempt(double, target=f"us.{CLAUDE}"))
    assert [bill.model_id for bill in double.world.bills] == [arn, f"us.{CLAUDE}"]


async def test_a_call_can_be_found_in_the_invocation_log(backend: BedrockBackend, double: AwsDouble) -> None:
    """It carries the ids of request and attempt."""
    await answer(backend, attempt(double))
    assert last_params(double)["requestMetadata"] == {"request_id": "r1", "attempt_id": "a1"}


async def test_a_role_is_assumed_once_for_a_deployment(backend: BedrockBackend, double: AwsDouble) -> None:
    """Its calls are of the role's account; those of a deployment without one are of the router's own."""
    with_role = AwsTerms(role_arn=ROLE)
    for terms in (with_role, None, with_role):
        await answer(backend, attempt(double, terms=terms))
    calls = [(call.operation, call.account) for call in double.world.calls]
    assert calls == [
        ("AssumeRole", "123456789012"),
        ("ConverseStream", "210987654321"),
        ("ConverseStream", "123456789012"),
        ("ConverseStream", "210987654321"),
    ]


async def test_credentials_of_a_role_are_renewed(backend: BedrockBackend, double: AwsDouble) -> None:
    """Those that are about to expire are asked for again before the call."""
    double.world.at = lambda: time.time() - 3590
    asked = attempt(double, terms=AwsTerms(role_arn=ROLE))
    await answer(backend, asked)
    await answer(backend, asked)
    assert [call.operation for call in double.world.calls].count("AssumeRole") == 2


async def test_a_role_that_may_not_be_assumed(backend: BedrockBackend, double: AwsDouble) -> None:
    """The deployment is to blame and not the sender."""
    double.world.forbidden_roles.add(ROLE)
    error = await failure(backend, attempt(double, terms=AwsTerms(role_arn=ROLE)))
    assert (type(error), error.code) == (Refused, "backend_forbidden")


@pytest.mark.parametrize("api", Api)
async def test_a_count_keeps_prompt_and_answer_in_the_window(
    backend: BedrockBackend, double: AwsDouble, api: Api
) -> None:
    """Where they might not fit, the prompt is counted, and the answer asked for as long as there is room."""
    terms = AwsTerms(api=api, count_tokens=True)
    roomy = attempt(double, terms=terms, body={"max_tokens": 50}, context_tokens=100_000)
    await answer(backend, roomy)
    assert double.world.calls[0].operation != "CountTokens"
    tight = attempt(double, terms=terms, body={"max_tokens": 50}, context_tokens=50)
    await answer(backend, tight)
    counted, called = list(double.world.calls)[-2:]
    assert (counted.operation, counted.params["modelId"]) == ("CountTokens", CLAUDE)
    if api is Api.CONVERSE:
        assert called.params["inferenceConfig"]["maxTokens"] < 50
    else:
        assert msgspec.json.decode(called.params["body"])["max_tokens"] < 50


async def test_a_prompt_that_is_counted_too_long(backend: BedrockBackend, double: AwsDouble) -> None:
    """It is refused without a call, by the code that clients look for."""
    asked = attempt(double, terms=AwsTerms(count_tokens=True), context_tokens=1)
    error = await failure(backend, asked)
    assert (type(error), error.code) == (Refused, "context_length_exceeded")
    assert [call.operation for call in double.world.calls] == ["CountTokens"]


@pytest.mark.parametrize("code", ["ThrottlingException", "ValidationException", "InternalServerException"])
async def test_the_estimate_stands_where_nothing_is_counted(
    backend: BedrockBackend, double: AwsDouble, code: str
) -> None:
    """A throttle of CountTokens is none of the model's."""
    double.world.faults.append(Fault(code=code, operation="CountTokens"))
    asked = attempt(double, terms=AwsTerms(count_tokens=True), body={"max_tokens": 50}, context_tokens=40)
    await answer(backend, asked)
    assert last_params(double)["inferenceConfig"] == {"maxTokens": 50}


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


@pytest.mark.parametrize(("api", "stream"), [(Api.CONVERSE, True), (Api.CONVERSE, False), (Api.INVOKE, False)])
async def test_tools_go_through(backend: BedrockBackend, double: AwsDouble, api: Api, stream: bool) -> None:
    """A tool call comes back as one, whichever operation carried it."""
    call = ToolUse("t1", "weather", ('{"at":', '"Bern"}'))
    double.world.default = Model("default", says=Answer((), tools=(call,), stop_reason="tool_use"))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    deltas = await answer(backend, attempt(double, stream=stream, terms=AwsTerms(api=api), body={"tools": [tool]}))
    (choice,) = msgspec.json.decode(assemble(deltas))
    assert choice["finish_reason"] == "tool_calls"
    function = choice["message"]["tool_calls"][0]["function"]
    assert (function["name"], msgspec.json.decode(function["arguments"])) == ("weather", {"at": "Bern"})


async def test_cancelled_streams_give_their_connections_back(double: AwsDouble) -> None:
    """After 200 streams that were left in the middle, over 50 connections, another call finds one at once."""
    double.world.faults.append(Fault(How.HANG, after=1, times=200))
    backend = BedrockBackend(session(), max_connections=50)

    async def leave() -> None:
        stream = backend.open(attempt(double))
        async for delta in stream:
            if delta.tokens:
                break
        await stream.aclose()

    for _ in range(4):
        await asyncio.gather(*(leave() for _ in range(50)))
    assert text_of(await answer(backend, attempt(double)))
    for _ in range(200):
        await asyncio.wait_for(double.world.gone.acquire(), PATIENCE_S)
    assert double.world.serving == 0
    await backend.close()
