"""Calls of InvokeModel: a talk with an image and a tool, and a model id of each family."""

from __future__ import annotations

from typing import Any

import msgspec

from router.domain.aws.terms import Api, AwsTerms, Payload
from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Tier
from router.domain.outcome import Attempt, AttemptId
from router.wire.openai import Envelope, read_request

Json = dict[str, Any]
INVOKED = AwsTerms(api=Api.INVOKE)
PIXEL = "iVBORw0KGgo="
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
IDS = {
    Payload.ANTHROPIC: "us.anthropic.claude-3-5-haiku-20241022-v1:0",
    Payload.LLAMA: "meta.llama3-1-8b-instruct-v1:0",
    Payload.MISTRAL: "mistral.mistral-7b-instruct-v0:2",
    Payload.TITAN: "amazon.titan-text-express-v1",
    Payload.NOVA: "amazon.nova-lite-v1:0",
    Payload.OPENAI: "openai.gpt-oss-20b-1:0",
}


def attempt(
    target: str,
    *,
    terms: AwsTerms = INVOKED,
    lane: Lane = Lane.DEFAULT,
    model: str = "m",
    **body: Any,
) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model=model,
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock", target, aws=terms),
        price=Price(1, 1),
        lane=lane,
    )
    payload = msgspec.json.encode({"messages": TALK, **body})
    envelope = Envelope(id="request-7", arrived=0.0, at=0.0, source="test", request_class="chat")
    return Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(payload, envelope),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=None,
        stream=True,
    )
