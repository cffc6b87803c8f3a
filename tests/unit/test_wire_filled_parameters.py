"""How parameters that a class fills in are spelled, and that a word of the sender's is never written over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Lane, Price, Sampling, Tier
from router.domain.errors import Refused
from router.domain.outcome import Attempt, AttemptId
from router.wire.aws.bedrock import converse_request
from router.wire.openai import Envelope, read_body, read_request, upstream_body

MESSAGES = [{"role": "user", "content": "hi"}]
FILLED: dict[str, Any] = {"temperature": 0.5, "top_p": 0.7, "top_k": 40, "max_tokens": 100}


def attempt(body: dict[str, Any], *, target: str = "t", model: str = "m", **fields: Any) -> Attempt:
    payload = json.dumps({"messages": MESSAGES, **body}).encode()
    read = read_request(payload, Envelope(id="r", arrived=0.0, at=0.0, source="http"))
    takes = frozenset(fields.pop("takes", Sampling))
    address, price = Address("b", target), Price(0.0, 0.0)
    where = Deployment(DeploymentName("d"), "d", model, Tier.SMALL, Kind.CONTINUOUS, address, price, takes=takes)
    return Attempt(AttemptId("a"), DecisionId("d"), read, where, 1, 0.0, None, False, **(FILLED | fields))


def openai(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What is filled in of an OpenAI body."""
    fields.setdefault("takes", [Sampling.MAX_TOKENS])
    sent: dict[str, Any] = json.loads(upstream_body(attempt(body, **fields)))
    return {name: value for name, value in sent.items() if name not in {"messages", "model"}}


def test_an_openai_body_gets_what_the_call_carries() -> None:
    """top_k as the extra field that vLLM and Ollama read."""
    assert openai({}) == FILLED


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
@pytest.mark.parametrize("value", [0, 1])
def test_each_parameter_of_the_sender_stands_by_itself(name: str, value: int) -> None:
    """What it says is kept, 0 among it, and the others are filled in still."""
    assert openai({name: value}) == {**FILLED, name: value}


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_null_is_silence(name: str) -> None:
    """As OpenAI has it."""
    assert openai({name: None}) == FILLED


@pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
def test_the_senders_bound_is_kept_under_its_own_name(said: str) -> None:
    """Neither name is added beside the other."""
    sent = openai({said: 5}, max_tokens=None)
    assert {n: v for n, v in sent.items() if n.startswith("max")} == {said: 5}


def test_a_server_that_reads_the_newer_name_gets_that_one() -> None:
    """And no null of the older one beside it."""
    sent = openai({"max_tokens": None}, takes=[Sampling.MAX_COMPLETION_TOKENS])
    assert {n: v for n, v in sent.items() if n.startswith("max")} == {"max_completion_tokens": 100}


def bedrock(body: dict[str, Any], **fields: Any) -> tuple[Any, dict[str, Any]]:
    """Further fields and inference parameters of a Converse call."""
    call = attempt(body, **fields)
    sent = converse_request(read_body(call.request.payload), call)
    return sent.get("additionalModelRequestFields"), sent["inferenceConfig"]


@pytest.mark.parametrize(
    ("target", "model", "expected"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "m", {"top_k": 40}),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "m", {"top_k": 40}),
        ("arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcd1234efgh", "claude-3-haiku", {"top_k": 40}),
        ("us.amazon.nova-lite-v1:0", "m", {"inferenceConfig": {"topK": 40}}),
        ("cohere.command-r-plus-v1:0", "m", {"k": 40}),
        ("meta.llama3-1-70b-instruct-v1:0", "m", None),
        ("mistral.mistral-large-2407-v1:0", "m", None),
        ("arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abcd1234efgh", "own", None),
    ],
)
def test_converse_gets_top_k_in_the_words_of_the_models_family(target: str, model: str, expected: object) -> None:
    """By the id, else by the model's name in the policy; nothing for a family that has no such parameter."""
    assert bedrock({}, target=target, model=model)[0] == expected


CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"


@pytest.mark.parametrize(("said", "expected"), [(7, {"top_k": 7}), (0, None), (-1, None), (None, {"top_k": 40})])
def test_the_senders_top_k_stands_over_the_classs(said: int | None, expected: object) -> None:
    """0 and -1 are how other servers spell none."""
    assert bedrock({"top_k": said}, target=CLAUDE)[0] == expected


def test_a_top_k_that_is_no_number_is_refused_by_name() -> None:
    """Before any call."""
    with pytest.raises(Refused) as caught:
        bedrock({"top_k": "many"}, target=CLAUDE)
    assert caught.value.param == "top_k"


@pytest.mark.parametrize(
    ("body", "filled", "expected"),
    [
        ({}, {}, {"temperature": 0.5}),
        ({"temperature": 0.1}, {}, {"temperature": 0.1}),
        ({"top_p": 0.9}, {"temperature": None}, {"topP": 0.9}),
        ({}, {"temperature": None}, {"topP": 0.7}),
    ],
)
def test_a_claude_is_given_a_temperature_or_a_top_p(
    body: dict[str, Any], filled: dict[str, Any], expected: dict[str, float]
) -> None:
    """It refuses both together, so the class adds no top_p to a temperature."""
    assert bedrock(body, target=CLAUDE, **filled)[1] == {"maxTokens": 100, **expected}


def test_a_claude_is_given_no_temperature_beside_the_senders_top_p() -> None:
    """The other way round: what the sender says goes first."""
    assert bedrock({"top_p": 0.9}, target=CLAUDE)[1] == {"maxTokens": 100, "topP": 0.9}


def test_other_families_get_both() -> None:
    """Llama takes temperature and top_p together."""
    config = bedrock({}, target="meta.llama3-1-70b-instruct-v1:0")[1]
    assert config == {"maxTokens": 100, "temperature": 0.5, "topP": 0.7}


@pytest.mark.parametrize(("lane", "sent"), [(Lane.FLEX, "flex"), (Lane.PRIORITY, "priority"), (Lane.DEFAULT, "auto")])
def test_a_lane_goes_out_as_its_service_tier(lane: Lane, sent: str) -> None:
    """The tier of the deployment stands, whatever the sender asks for; in the default lane the sender's does."""
    call = attempt({"service_tier": "auto"})
    call = replace(call, deployment=replace(call.deployment, lane=lane))
    assert json.loads(upstream_body(call))["service_tier"] == sent
