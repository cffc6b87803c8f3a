"""What the double's Bedrock runtime answers to the real SDK: every operation, the ids of a model, and its bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from router.doubles.aws.models import (
    Answer,
    Guardrail,
    Model,
    PromptRouter,
    ToolUse,
)
from router.doubles.aws.server import AwsDouble
from tests.integration.aws_far_side import client, turn
from tests.integration.double_families import BODIES
from tests.integration.double_runtime import SONNET, Clock, events, has, refused, standing

IPR = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/haiku-or-sonnet"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def double(clock: Clock) -> AsyncIterator[AwsDouble]:
    async with standing(clock) as one:
        yield one


@pytest.fixture
async def sdk(double: AwsDouble) -> AsyncIterator[Any]:
    async with client(double.url) as one:
        yield one


async def test_converse(double: AwsDouble, sdk: Any) -> None:
    """A whole answer has text, reasoning, a tool call, usage and the reason it stopped."""
    tool = ToolUse("t1", "now", ('{"zo', 'ne": "CET"}'))
    says = Answer(("Let ", "me "), reasoning=("Hm. ",), tools=(tool,), stop_reason="tool_use")
    has(double, says=says)
    answer = await sdk.converse(modelId=SONNET, messages=turn("What time is it"))
    assert answer["output"]["message"]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm. "}}},
        {"text": "Let me "},
        {"toolUse": {"toolUseId": "t1", "name": "now", "input": {"zone": "CET"}}},
    ]
    assert (answer["stopReason"], answer["usage"]["inputTokens"], answer["usage"]["outputTokens"]) == ("tool_use", 4, 2)


async def test_converse_stream_says_the_same(double: AwsDouble, sdk: Any) -> None:
    """The events of a stream carry the text of the whole answer, its usage and its end."""
    got = await events(await sdk.converse_stream(modelId=SONNET, messages=turn()))
    whole = await sdk.converse(modelId=SONNET, messages=turn())
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in got if "contentBlockDelta" in event)
    assert text == whole["output"]["message"]["content"][0]["text"]
    assert got[-2] == {"messageStop": {"stopReason": "end_turn"}}
    assert got[-1]["metadata"]["usage"] == whole["usage"]


async def test_count_tokens(double: AwsDouble, sdk: Any) -> None:
    """Tokens are counted for both kinds of input as a call would be billed, and counting is free."""
    body = msgspec.json.encode(BODIES["anthropic"][1])
    by_invoke = await sdk.count_tokens(modelId=SONNET, input={"invokeModel": {"body": body}})
    by_converse = await sdk.count_tokens(modelId=SONNET, input={"converse": {"messages": turn("a b")}})
    assert (by_invoke["inputTokens"], by_converse["inputTokens"], len(double.world.bills)) == (2, 2, 0)


async def test_guardrail(double: AwsDouble, sdk: Any) -> None:
    """A word in the prompt stops the model from being called, one in the answer replaces the answer."""
    double.world.guardrails["gr1"] = Guardrail(("secret", "word3"), "No.")
    config = {"guardrailIdentifier": "gr1", "guardrailVersion": "1", "trace": "enabled"}
    before = await sdk.converse(modelId=SONNET, messages=turn("the secret"), guardrailConfig=config)
    after = await sdk.converse(modelId=SONNET, messages=turn(), guardrailConfig=config)
    for answer in (before, after):
        assert answer["stopReason"] == "guardrail_intervened"
        assert answer["output"]["message"]["content"] == [{"text": "No."}]
    assert (before["usage"]["outputTokens"], after["usage"]["outputTokens"]) == (0, 8)
    assert "inputAssessment" in before["trace"]["guardrail"]
    assert "outputAssessments" in after["trace"]["guardrail"]
    body = msgspec.json.encode(BODIES["llama"][1] | {"prompt": "secret"})
    told = await sdk.invoke_model(modelId="meta.llama3", body=body, guardrailIdentifier="gr1", guardrailVersion="1")
    assert msgspec.json.decode(await told["body"].read())["amazon-bedrock-guardrailAction"] == "INTERVENED"
    unknown = sdk.converse(modelId=SONNET, messages=turn(), guardrailConfig={**config, "guardrailIdentifier": "gr9"})
    assert (await refused(unknown))[1] == "ValidationException"


async def test_prompt_router(double: AwsDouble, sdk: Any) -> None:
    """A router sends long prompts to its second model, says which it invoked, and that one is billed."""
    has(double)
    double.world.models["anthropic.haiku"] = Model("anthropic.haiku")
    double.world.prompt_routers[IPR] = PromptRouter(("anthropic.haiku", f"us.{SONNET}"), long_tokens=5)
    haiku = "arn:aws:bedrock:us-east-1::foundation-model/anthropic.haiku"
    sonnet = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{SONNET}"
    for text, invoked, model in (("a", haiku, "anthropic.haiku"), ("a " * 5, sonnet, SONNET)):
        answer = await sdk.converse(modelId=IPR, messages=turn(text))
        assert answer["trace"]["promptRouter"]["invokedModelId"] == invoked
        assert (double.world.bills[-1].model, double.world.bills[-1].model_id) == (model, IPR)


async def test_ids_of_one_model(double: AwsDouble, sdk: Any) -> None:
    """The bare id, its ARN, a profile over regions and an application's profile all reach the model."""
    has(double)
    double.world.profiles[PROFILE] = f"us.{SONNET}"
    foundation = f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}"
    crossing = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{SONNET}"
    for name in (SONNET, foundation, f"eu.{SONNET}", f"global.{SONNET}", crossing, PROFILE):
        await sdk.converse(modelId=name, messages=turn())
    assert {bill.model for bill in double.world.bills} == {SONNET}
    assert (await refused(sdk.converse(modelId="nobody.knows", messages=turn())))[1] == "ValidationException"


async def test_bounds_of_a_model(double: AwsDouble, sdk: Any) -> None:
    """A prompt over the window, and a limit over the model's most, are refused in Bedrock's words."""
    has(double, max_tokens=100, window_tokens=10)
    long = await refused(sdk.converse(modelId=SONNET, messages=turn("w " * 11)))
    assert long == (400, "ValidationException", "Input is too long for requested model.")
    asked = sdk.converse(modelId=SONNET, messages=turn(), inferenceConfig={"maxTokens": 101})
    assert "exceeds the model limit of 100" in (await refused(asked))[2]
