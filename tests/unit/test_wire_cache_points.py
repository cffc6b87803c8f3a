"""Where cache points go in what is sent to Bedrock."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.domain.aws.terms import Api, AwsTerms, CacheTerms
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.outcome import Attempt, AttemptId
from router.doubles.aws.runtime.prompt import read_prompt
from router.wire.aws.exchange import exchange_for
from router.wire.openai import Envelope, read_request
from router.wire.openai.prefix import cuts_of

Json = dict[str, Any]
CLAUDE, LLAMA = "anthropic.claude-3-5-haiku-20241022-v1:0", "meta.llama3-1-8b-instruct-v1:0"
POINT = {"cachePoint": {"type": "default"}}
TALK = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("user", "now"))


def arguments(
    *points: int, target: str = CLAUDE, api: Api = Api.CONVERSE, ttl_s: float = 300.0, talk: Any = TALK
) -> Json:
    terms = AwsTerms(api=api, cache=CacheTerms(ttl_s=ttl_s))
    address = Address("bedrock", target, region="us-east-1", aws=terms)
    to = Deployment(DeploymentName("d"), "d", "m", Tier.SMALL, Kind.CONTINUOUS, address, Price(1.0, 1.0))
    payload = msgspec.json.encode({"messages": [{"role": role, "content": text} for role, text in talk]})
    request = read_request(payload, Envelope("r", 0.0, 0.0, "test"))
    attempt = Attempt(AttemptId("a"), DecisionId("d"), request, to, 1, 0.0, None, stream=True, cache_after=points)
    return exchange_for(attempt).arguments()


def test_converse_cuts_after_the_system_prompt_and_after_messages() -> None:
    """0 ends the system prompt, n the n-th other message, also within a turn of several."""
    asked = arguments(0, 2, 3)
    assert asked["system"] == [{"text": "Be brief."}, POINT]
    assert [message["content"] for message in asked["messages"]] == [
        [{"text": "Hi"}],
        [{"text": "Hello."}, POINT],
        [{"text": "Bye"}, POINT, {"text": "now"}],
    ]


def test_without_points_nothing_is_added() -> None:
    """What is not to be cached goes out as ever."""
    assert "cachePoint" not in str(arguments())


def test_a_prompt_of_system_messages_alone_has_no_point() -> None:
    """Converse wants a message; what was the system prompt becomes it, and no block stands before it."""
    asked = arguments(0, talk=(("system", "Be brief."),))
    assert "system" not in asked
    assert asked["messages"] == [{"role": "user", "content": [{"text": "Be brief."}]}]


def test_a_long_time_to_live_is_asked_for_by_name() -> None:
    """Five minutes are the default and are not written."""
    assert arguments(0, ttl_s=3600.0)["system"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}


def test_claude_by_invoke_model_has_cache_control_and_others_have_nothing() -> None:
    """Anthropic's body marks the block itself; a Llama prompt is one text."""
    body = msgspec.json.decode(arguments(0, 2, api=Api.INVOKE)["body"])
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in str(body["messages"][0])
    assert b"cache" not in arguments(0, 2, target=LLAMA, api=Api.INVOKE)["body"]


@pytest.mark.parametrize("api", [Api.CONVERSE, Api.INVOKE])
def test_what_is_sent_has_the_prefixes_that_were_meant(api: Api) -> None:
    """A turn cut at its end, and the next cut at the same place and elsewhere, share that prefix for the service; so
    they do for the router."""
    prompts = []
    for points, talk in (((0, 1), TALK[:2]), ((1, 3), TALK[:4])):
        asked = arguments(*points, api=api, talk=talk)
        prompts.append(read_prompt(msgspec.json.decode(asked["body"]) if api is Api.INVOKE else asked, None))
    assert prompts[0].prefixes[1].digest == prompts[1].prefixes[0].digest
    sent = [msgspec.json.encode({"messages": [{"role": r, "content": c} for r, c in TALK[:n]]}) for n in (2, 4)]
    assert cuts_of(sent[0])[1].digest == cuts_of(sent[1])[1].digest
