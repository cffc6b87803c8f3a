"""The double's Bedrock runtime, called by the real SDK: every operation, quotas, cache, tiers, guardrails and bills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, EventStreamError

from router.doubles.aws.faults import Fault, How
from router.doubles.aws.models import (
    Answer,
    Guardrail,
    Lane,
    Model,
    Optimized,
    Prices,
    PromptRouter,
    Quota,
    Speed,
    ToolUse,
    words,
)
from router.doubles.aws.server import AwsDouble, aws_double
from router.doubles.aws.world import Provisioned, World
from tests.integration.aws_far_side import client, turn

SONNET = "anthropic.claude-sonnet-4-20250514-v1:0"
PT = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"
IPR = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/haiku-or-sonnet"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team"


class Clock:
    """Time that passes only by being slept away."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def double(clock: Clock) -> AsyncIterator[AwsDouble]:
    async with aws_double(World(now=clock.now, at=clock.now, sleep=clock.sleep)) as one:
        yield one
    assert one.world.drift == []


@pytest.fixture
async def sdk(double: AwsDouble) -> AsyncIterator[Any]:
    async with client(double.url) as one:
        yield one


def has(double: AwsDouble, **qualities: Any) -> None:
    """The world has one model."""
    double.world.models[SONNET] = Model(SONNET, **qualities)


async def refused(call: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        await call
    said = caught.value.response
    return said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"], said["Error"]["Message"]


async def events(answer: Any, member: str = "stream") -> list[dict[str, Any]]:
    return [event async for event in answer[member]]


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


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": (
        SONNET,
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 3, "messages": [{"role": "user", "content": "a b"}]},
    ),
    "llama": ("meta.llama3-1-8b-instruct-v1:0", {"prompt": "a b", "max_gen_len": 3}),
    "mistral": ("mistral.mistral-7b-instruct-v0:2", {"prompt": "a b", "max_tokens": 3}),
    "titan": ("amazon.titan-text-lite-v1", {"inputText": "a b", "textGenerationConfig": {"maxTokenCount": 3}}),
    "nova": ("amazon.nova-lite-v1:0", {"messages": turn("a b"), "inferenceConfig": {"maxTokens": 3}}),
    "openai": ("openai.gpt-oss-20b-1:0", {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 3}),
}


def said(family: str, body: dict[str, Any]) -> tuple[str, str]:
    """The text of a whole answer and why it ended."""
    if family == "anthropic":
        return body["content"][0]["text"], body["stop_reason"]
    if family == "llama":
        return body["generation"], body["stop_reason"]
    if family == "mistral":
        return body["outputs"][0]["text"], body["outputs"][0]["stop_reason"]
    if family == "titan":
        return body["results"][0]["outputText"], body["results"][0]["completionReason"]
    if family == "nova":
        return body["output"]["message"]["content"][0]["text"], body["stopReason"]
    return body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]


def piece(family: str, chunk: dict[str, Any]) -> str:
    """The text of a chunk, if it has any."""
    if family == "anthropic":
        return str(chunk.get("delta", {}).get("text", ""))
    if family == "nova":
        return str(chunk.get("contentBlockDelta", {}).get("delta", {}).get("text", ""))
    if family == "mistral":
        return str(chunk["outputs"][0]["text"])
    if family == "openai":
        return str(chunk["choices"][0]["delta"].get("content", ""))
    return str(chunk["generation" if family == "llama" else "outputText"])


@pytest.mark.parametrize("family", BODIES)
async def test_invoke(double: AwsDouble, sdk: Any, family: str) -> None:
    """Each family's body is read and answered in its own spelling, bounded by its own limit, and billed."""
    model, body = BODIES[family]
    answer = await sdk.invoke_model(modelId=model, body=msgspec.json.encode(body))
    text, stop = said(family, msgspec.json.decode(await answer["body"].read()))
    assert (text, stop.lower()) == ("word0 word1 word2 ", stop.lower())
    assert stop.lower() in {"max_tokens", "length"}
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amzn-bedrock-input-token-count"], headers["x-amzn-bedrock-output-token-count"]) == ("2", "3")
    assert (double.world.bills[-1].input_tokens, double.world.bills[-1].output_tokens) == (2, 3)


@pytest.mark.parametrize("family", BODIES)
async def test_invoke_stream(double: AwsDouble, sdk: Any, family: str) -> None:
    """The chunks of each family carry the whole answer's text, and the last one the metrics of the call."""
    model, body = BODIES[family]
    answer = await sdk.invoke_model_with_response_stream(modelId=model, body=msgspec.json.encode(body))
    chunks = [msgspec.json.decode(event["chunk"]["bytes"]) for event in await events(answer, "body")]
    assert "".join(piece(family, chunk) for chunk in chunks) == "word0 word1 word2 "
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (2, 3)


async def test_bodies_of_another_family(sdk: Any) -> None:
    """A body that is not of the model's family, or no JSON, is refused."""
    for body in (b'{"inputText": "a"}', b"{", b"[]"):
        assert (await refused(sdk.invoke_model(modelId="meta.llama3", body=body)))[:2] == (400, "ValidationException")


async def test_count_tokens(double: AwsDouble, sdk: Any) -> None:
    """Tokens are counted for both kinds of input as a call would be billed, and counting is free."""
    body = msgspec.json.encode(BODIES["anthropic"][1])
    by_invoke = await sdk.count_tokens(modelId=SONNET, input={"invokeModel": {"body": body}})
    by_converse = await sdk.count_tokens(modelId=SONNET, input={"converse": {"messages": turn("a b")}})
    assert (by_invoke["inputTokens"], by_converse["inputTokens"], len(double.world.bills)) == (2, 2, 0)


async def at_once(double: AwsDouble, sdk: Any, config: dict[str, Any], offered: int) -> tuple[int, set[str]]:
    """How many of the offered calls are admitted while none of them ends, and what refuses the others."""
    hold = asyncio.Event()

    async def held(_: float) -> None:
        await hold.wait()

    double.world.sleep = held
    long = turn("word " * 500)
    calls = [asyncio.create_task(sdk.converse(modelId=SONNET, messages=long, **config)) for _ in range(offered)]
    while len(double.world.calls) < offered:
        await asyncio.sleep(0)
    hold.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    codes = {end.response["Error"]["Code"] for end in ends if isinstance(end, ClientError)}
    return sum(isinstance(end, dict) for end in ends), codes


@pytest.mark.parametrize(("max_tokens", "admitted"), [(None, 3), (64_000, 3), (1_000, 133)])
async def test_reservation_bounds_concurrency(
    double: AwsDouble, sdk: Any, max_tokens: int | None, admitted: int
) -> None:
    """A tenth of AWS's own example, over the wire: with 200,000 tokens a minute and 500 of input, 3 calls are
    admitted at once where `maxTokens` is left to the model's 64,000, and 133 with 1,000."""
    has(double, quota=Quota(tokens_per_min=2e5), max_tokens=64_000)
    config = {} if max_tokens is None else {"inferenceConfig": {"maxTokens": max_tokens}}
    assert await at_once(double, sdk, config, admitted + 10) == (admitted, {"ThrottlingException"})


async def test_settlement(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """At the end all but input and five times the output is given back, and the bucket fills over the minute."""
    has(double, quota=Quota(tokens_per_min=1000, output_burndown=5.0), says=words(20), max_tokens=870)
    for _ in range(2):
        await sdk.converse(modelId=SONNET, messages=turn("word " * 10))
    assert (await refused(sdk.converse(modelId=SONNET, messages=turn("word " * 10))))[:2] == (
        429,
        "ThrottlingException",
    )
    clock.time += 30.0
    await sdk.converse(modelId=SONNET, messages=turn("word " * 10))


async def test_requests_per_minute_of_an_account_and_region(double: AwsDouble, sdk: Any) -> None:
    """Requests are counted for each model, region and account; tiers and operations share the count."""
    has(double, quota=Quota(requests_per_min=2))
    await sdk.converse(modelId=SONNET, messages=turn(), serviceTier={"type": "flex"})
    await events(await sdk.converse_stream(modelId=SONNET, messages=turn()))
    assert (await refused(sdk.converse(modelId=SONNET, messages=turn())))[1] == "ThrottlingException"
    await sdk.converse(modelId=f"us.{SONNET}", messages=turn())
    async with client(double.url, region="eu-west-1") as elsewhere:
        await elsewhere.converse(modelId=SONNET, messages=turn())
    double.world.keys["other"] = "210987654321"
    async with client(double.url, key="other") as somebody:
        await somebody.converse(modelId=SONNET, messages=turn())
    assert [bill.account for bill in double.world.bills][-1] == "210987654321"


def cached(prefix: int, rest: int, ttl: dict[str, str]) -> dict[str, Any]:
    point = {"cachePoint": {"type": "default", **ttl}}
    return {"system": [{"text": "rule " * prefix}, point], "messages": turn("word " * rest)}


async def test_prompt_cache(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A prefix is written, then read while it is kept: cheaper, and the first token comes sooner."""
    speed = Speed(first_token_s=0.1, input_token_s=0.001)
    has(double, speed=speed, prices=Prices(3.0, 15.0), cache_min_tokens=1000)
    prompt = cached(1000, 10, {})
    first = await sdk.converse(modelId=SONNET, **prompt)
    assert first["usage"] == {
        "inputTokens": 10,
        "outputTokens": 8,
        "totalTokens": 1018,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 1000,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 1000}],
    }
    second = await sdk.converse(modelId=SONNET, **prompt)
    assert (second["usage"]["cacheReadInputTokens"], second["usage"]["cacheWriteInputTokens"]) == (1000, 0)
    assert (first["metrics"]["latencyMs"], second["metrics"]["latencyMs"]) == (1110, 110)
    assert [bill.usd for bill in double.world.bills] == pytest.approx(
        [(10 * 3 + 1000 * 3.75 + 8 * 15) * 1e-6, (10 * 3 + 1000 * 0.3 + 8 * 15) * 1e-6]
    )
    clock.time += 301.0
    third = await sdk.converse(modelId=SONNET, **prompt)
    assert third["usage"]["cacheWriteInputTokens"] == 1000


async def test_cache_for_an_hour(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A prefix kept for an hour costs twice the input's price, and is there after ten minutes."""
    has(double, prices=Prices(3.0, 0.0), cache_min_tokens=10)
    await sdk.converse(modelId=SONNET, **cached(100, 1, {"ttl": "1h"}))
    assert double.world.bills[-1].usd == pytest.approx((3.0 + 100 * 6.0) * 1e-6)
    clock.time += 600.0
    answer = await sdk.converse(modelId=SONNET, **cached(100, 1, {"ttl": "1h"}))
    assert answer["usage"]["cacheReadInputTokens"] == 100


async def test_short_and_changed_prefixes(double: AwsDouble, sdk: Any) -> None:
    """A prefix under the least length is not cached; one that changed in a word is not read."""
    has(double, cache_min_tokens=1000)
    answer = await sdk.converse(modelId=SONNET, **cached(999, 1, {}))
    assert "cacheWriteInputTokens" not in answer["usage"]
    await sdk.converse(modelId=SONNET, **cached(1000, 1, {}))
    changed = cached(1000, 1, {})
    changed["system"][0]["text"] = "Rule" + changed["system"][0]["text"][4:]
    assert (await sdk.converse(modelId=SONNET, **changed))["usage"]["cacheReadInputTokens"] == 0


async def test_cache_spares_the_quota(double: AwsDouble, sdk: Any) -> None:
    """Tokens read from the cache are reserved but not spent."""
    has(double, quota=Quota(tokens_per_min=2200), max_tokens=100, cache_min_tokens=10)
    prompt = cached(1000, 0, {}) | {"messages": turn("Hi")}
    await sdk.converse(modelId=SONNET, **prompt)
    for _ in range(6):
        await sdk.converse(modelId=SONNET, **prompt)


async def test_service_tiers(double: AwsDouble, sdk: Any) -> None:
    """Priority is faster and dearer, flex slower and cheaper, and the answer says what was served."""
    has(double, speed=Speed(first_token_s=1.0), prices=Prices(1.0, 1.0))
    served = {}
    for tier in ("priority", "default", "flex"):
        answer = await sdk.converse(modelId=SONNET, messages=turn(), serviceTier={"type": tier})
        served[answer["serviceTier"]["type"]] = (answer["metrics"]["latencyMs"], double.world.bills[-1].usd)
    assert served["priority"][0] < served["default"][0] < served["flex"][0]
    assert served["priority"][1] > served["default"][1] > served["flex"][1]
    assert [bill.tier for bill in double.world.bills] == ["priority", "default", "flex"]
    body = msgspec.json.encode(BODIES["anthropic"][1])
    assert (await sdk.invoke_model(modelId=SONNET, body=body, serviceTier="flex"))["serviceTier"] == "flex"


async def test_latency_optimised(double: AwsDouble, sdk: Any) -> None:
    """Optimised calls are faster; beyond their own quota they are served, and billed, as standard without an error."""
    optimized = Optimized(Lane(0.5, 2.0), Quota(requests_per_min=1))
    has(double, speed=Speed(first_token_s=1.0), prices=Prices(1.0, 1.0), optimized=optimized)
    got = [
        await sdk.converse(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
        for _ in range(2)
    ]
    assert [answer["performanceConfig"]["latency"] for answer in got] == ["optimized", "standard"]
    assert [answer["metrics"]["latencyMs"] for answer in got] == [500, 1000]
    assert double.world.bills[0].usd == pytest.approx(2 * double.world.bills[1].usd)
    streamed = await events(
        await sdk.converse_stream(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
    )
    assert streamed[-1]["metadata"]["performanceConfig"] == {"latency": "standard"}


async def test_latency_not_offered(double: AwsDouble, sdk: Any) -> None:
    """A model that has no optimised latency refuses it."""
    has(double)
    call = sdk.converse(modelId=SONNET, messages=turn(), performanceConfig={"latency": "optimized"})
    assert (await refused(call))[1] == "ValidationException"


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


async def test_provisioned(double: AwsDouble, sdk: Any) -> None:
    """Reserved throughput answers while in service or updated, within its units, and bills nothing by the call."""
    has(double, prices=Prices(3.0, 15.0), max_tokens=50)
    held = double.world.provisioned[PT] = Provisioned(PT, "pt", SONNET, 2, "Updating", unit_tokens_per_min=60.0)
    await sdk.converse(modelId=PT, messages=turn())
    assert (double.world.bills[-1].usd, double.world.bills[-1].tier) == (0.0, "provisioned")
    for _ in range(7):
        await sdk.converse(modelId=PT, messages=turn())
    assert (await refused(sdk.converse(modelId=PT, messages=turn())))[1] == "ThrottlingException"
    held.status = "Creating"
    assert (await refused(sdk.converse(modelId=PT, messages=turn())))[1] == "ValidationException"
    gone = sdk.converse(modelId=PT[:-1] + "9", messages=turn())
    assert (await refused(gone))[:2] == (404, "ResourceNotFoundException")


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


async def test_cold_start(double: AwsDouble, sdk: Any, clock: Clock) -> None:
    """A model that has not been called for a while is loaded first; a warm one is not."""
    has(double, speed=Speed(first_token_s=0.1, cold_start_s=8.0, warm_s=60.0, output_token_s=0.01))
    waits = []
    for pause in (0.0, 10.0, 61.0):
        clock.time += pause
        waits.append((await sdk.converse(modelId=SONNET, messages=turn()))["metrics"]["latencyMs"])
    assert waits == [8170, 170, 8170]


async def test_bounds_of_a_model(double: AwsDouble, sdk: Any) -> None:
    """A prompt over the window, and a limit over the model's most, are refused in Bedrock's words."""
    has(double, max_tokens=100, window_tokens=10)
    long = await refused(sdk.converse(modelId=SONNET, messages=turn("w " * 11)))
    assert long == (400, "ValidationException", "Input is too long for requested model.")
    asked = sdk.converse(modelId=SONNET, messages=turn(), inferenceConfig={"maxTokens": 101})
    assert "exceeds the model limit of 100" in (await refused(asked))[2]


async def test_bills_add_up(double: AwsDouble, sdk: Any) -> None:
    """The bills are the tokens of the answers at the model's prices, streams and whole answers alike."""
    has(double, prices=Prices(3.0, 15.0))
    used = [(await sdk.converse(modelId=SONNET, messages=turn("a b c")))["usage"]]
    streamed = await events(await sdk.converse_stream(modelId=SONNET, messages=turn("a b")))
    used.append(streamed[-1]["metadata"]["usage"])
    owed = sum(one["inputTokens"] * 3.0 + one["outputTokens"] * 15.0 for one in used) * 1e-6
    assert sum(bill.usd for bill in double.world.bills) == pytest.approx(owed)
    assert owed == pytest.approx((5 * 3.0 + 16 * 15.0) * 1e-6)


async def test_a_failed_stream_is_billed_for_what_it_gave(double: AwsDouble, sdk: Any) -> None:
    """A stream that ends in an exception has billed its input and the tokens that were given, and freed its quota."""
    has(double, prices=Prices(1.0, 1.0), quota=Quota(tokens_per_min=100), max_tokens=90)
    double.world.faults.append(Fault(How.EXCEPTION, "ModelStreamErrorException", after=3, times=1))
    with pytest.raises(EventStreamError):
        await events(await sdk.converse_stream(modelId=SONNET, messages=turn()))
    assert (double.world.bills[-1].input_tokens, double.world.bills[-1].output_tokens) == (1, 4)
    await sdk.converse(modelId=SONNET, messages=turn())
