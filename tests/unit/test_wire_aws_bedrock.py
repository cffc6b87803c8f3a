"""`router.wire.aws.bedrock`: what an OpenAI body becomes on its way to Converse."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import Refused
from router.domain.outcome import Attempt, AttemptId
from router.doubles.aws.protocol.checking import violation
from router.doubles.aws.protocol.models import service_model
from router.doubles.aws.runtime.conversation import check_conversation
from router.wire.aws.bedrock import converse_request
from router.wire.openai import Envelope, read_body, read_request

ARN = "arn:aws:bedrock:eu-west-1:123456789012:provisioned-model/abcdefghij12"
HI = {"role": "user", "content": "Hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather at a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
ASKED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Bern"}'}}
    ],
}
TOLD = {"role": "tool", "tool_call_id": "call_1", "content": "9 degrees"}


def attempt(payload: bytes, **silent: Any) -> Attempt:
    deployment = Deployment(
        name=DeploymentName("d"),
        group="d",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.PROVISIONED,
        address=Address("bedrock", ARN),
        price=Price(1, 1),
    )
    return Attempt(
        id=AttemptId("a"),
        decision_id=DecisionId("d"),
        request=read_request(payload, Envelope(id="r", arrived=0.0, at=0.0, source="test")),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=None,
        stream=True,
        **silent,
    )


def translate(body: dict[str, Any], **silent: Any) -> dict[str, Any]:
    """The Converse arguments, held to the service model as the real client and service would hold them."""
    payload = msgspec.json.encode(body)
    request = converse_request(read_body(payload), attempt(payload, **silent))
    assert violation(service_model("bedrock-runtime").operation_model("Converse").input_shape, request) is None
    check_conversation(request)
    return request


def refusal(body: dict[str, Any]) -> Refused:
    payload = msgspec.json.encode(body)
    with pytest.raises(Refused) as caught:
        converse_request(read_body(payload), attempt(payload))
    return caught.value


def test_plain_question() -> None:
    """A single question becomes one user message to the deployment's target, and nothing else."""
    request = translate({"messages": [HI]})
    assert request == {"modelId": ARN, "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def test_system_prompts_are_lifted_out() -> None:
    """System and developer messages become the system list in their order, wherever they stand."""
    messages = [
        {"role": "system", "content": "Be brief."},
        HI,
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
    ]
    request = translate({"messages": messages})
    assert request["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert [message["role"] for message in request["messages"]] == ["user"]


def test_system_prompt_alone_is_asked() -> None:
    """A conversation of a system prompt alone is asked as a user message: Converse needs one."""
    request = translate({"messages": [{"role": "system", "content": "Tell a joke."}]})
    assert request["messages"] == [{"role": "user", "content": [{"text": "Tell a joke."}]}]
    assert "system" not in request


def test_parameters() -> None:
    """Token bound, temperature, top_p and stop sequences become the inference configuration."""
    body = {"messages": [HI], "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": "END"}
    assert translate(body)["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }


def test_newer_token_bound_and_stop_list() -> None:
    """`max_completion_tokens` is read too, and several stop sequences stay several."""
    body = {"messages": [HI], "max_completion_tokens": 7, "stop": ["a", "b"]}
    assert translate(body)["inferenceConfig"] == {"maxTokens": 7, "stopSequences": ["a", "b"]}


def test_silent_parameters_are_filled_in() -> None:
    """The class's parameters count only where the sender is silent; a temperature of 0 is not silence."""
    filled = translate({"messages": [HI]}, max_tokens=5, temperature=0.7, top_p=0.8)
    assert filled["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.7, "topP": 0.8}
    kept = translate({"messages": [HI], "temperature": 0, "max_tokens": 3}, max_tokens=5, temperature=0.7)
    assert kept["inferenceConfig"] == {"maxTokens": 3, "temperature": 0.0}


def test_high_temperature_is_held_to_converse() -> None:
    """A temperature above 1, which OpenAI allows and Converse refuses, becomes 1."""
    assert translate({"messages": [HI], "temperature": 1.7})["inferenceConfig"] == {"temperature": 1.0}


def test_neighbours_of_one_role_become_one_turn() -> None:
    """Messages of one role in a row become one message, as Converse's roles must alternate."""
    messages = [
        HI,
        {"role": "user", "content": "Are you there?"},
        {"role": "assistant", "content": "Yes."},
        HI,
    ]
    request = translate({"messages": messages})
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "user"]
    assert request["messages"][0]["content"] == [{"text": "Hi"}, {"text": "Are you there?"}]


def test_tools_go_round() -> None:
    """Tools, the call that was made and its result arrive as toolConfig, toolUse and toolResult."""
    request = translate({"messages": [HI, ASKED, TOLD], "tools": [WEATHER], "tool_choice": "required"})
    spec = request["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["name"] == "weather"
    assert spec["inputSchema"]["json"]["required"] == ["place"]
    assert request["toolConfig"]["toolChoice"] == {"any": {}}
    assert request["messages"][1]["content"] == [
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"place": "Bern"}}}
    ]
    assert request["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "9 degrees"}]}}
    ]


def test_results_of_parallel_calls_share_a_turn() -> None:
    """The results of several calls of one turn come in one user message, before the next question."""
    second = {**ASKED["tool_calls"][0], "id": "call_2"}
    asked = {**ASKED, "tool_calls": [*ASKED["tool_calls"], second]}
    messages = [HI, asked, TOLD, {**TOLD, "tool_call_id": "call_2"}, {"role": "user", "content": "So?"}]
    last = translate({"messages": messages, "tools": [WEATHER]})["messages"][-1]
    assert [next(iter(block)) for block in last["content"]] == ["toolResult", "toolResult", "text"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        (None, None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ],
)
def test_tool_choice(choice: object, expected: object) -> None:
    """`auto` is Converse's default; `required` and a named function have their counterparts."""
    request = translate({"messages": [HI], "tools": [WEATHER], "tool_choice": choice})
    assert request["toolConfig"].get("toolChoice") == expected


def test_tool_choice_none() -> None:
    """`none` offers no tools, for which Converse has no other word."""
    assert "toolConfig" not in translate({"messages": [HI], "tools": [WEATHER], "tool_choice": "none"})


def test_history_with_tools_declares_them() -> None:
    """A conversation that holds tool calls names their tools, even if the sender no longer offers any."""
    request = translate({"messages": [HI, ASKED, TOLD]})
    assert [tool["toolSpec"]["name"] for tool in request["toolConfig"]["tools"]] == ["weather"]


def test_tool_without_parameters() -> None:
    """A tool without parameters, arguments or description is still one that Converse takes."""
    tool = {"type": "function", "function": {"name": "now"}}
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": ""}}
    messages = [HI, {"role": "assistant", "tool_calls": [call]}, {**TOLD, "tool_call_id": "c"}]
    request = translate({"messages": messages, "tools": [tool]})
    assert request["messages"][1]["content"][0]["toolUse"]["input"] == {}


def test_foreign_tool_ids() -> None:
    """Ids of other servers that Converse would refuse are changed alike in the call and in its result."""
    strange = "functions.weather:0/" + "x" * 80
    asked = {**ASKED, "tool_calls": [{**ASKED["tool_calls"][0], "id": strange}]}
    request = translate({"messages": [HI, asked, {**TOLD, "tool_call_id": strange}], "tools": [WEATHER]})
    used = request["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert request["messages"][2]["content"][0]["toolResult"]["toolUseId"] == used


@pytest.mark.parametrize(("kind", "expected"), [("png", "png"), ("jpeg", "jpeg"), ("jpg", "jpeg"), ("webp", "webp")])
def test_pictures(kind: str, expected: str) -> None:
    """A picture in a data: URL arrives as its bytes with its format, in its place among the text."""
    url = f"data:image/{kind};base64,{b64encode(b'a picture').decode()}"
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    blocks = translate({"messages": [{"role": "user", "content": content}]})["messages"][0]["content"]
    assert blocks == [{"text": "What?"}, {"image": {"format": expected, "source": {"bytes": b"a picture"}}}]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url",
        ),
    ],
)
def test_unsupported_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    """What Converse cannot say is refused by the parameter's name, not answered otherwise than asked."""
    error = refusal({"messages": [HI], **more})
    assert (error.code, error.param) == ("unsupported", param)


@pytest.mark.parametrize("arguments", ["{", "[1]", "3"])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """Tool arguments that are not a JSON object are refused with their place."""
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    error = refusal({"messages": [HI, {"role": "assistant", "tool_calls": [call]}]})
    assert error.param == "messages[1].tool_calls[0].function.arguments"


def test_broken_picture() -> None:
    """A picture whose base64 is broken is refused with its place."""
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}]
    assert refusal({"messages": [{"role": "user", "content": content}]}).param == "messages[0].content[0].image_url"


TEXT = st.text(max_size=6)
MESSAGE = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "developer", "user", "assistant"]),
    TEXT | st.lists(TEXT.map(lambda text: {"type": "text", "text": text}), max_size=3),
)


@given(
    messages=st.lists(MESSAGE, max_size=6),
    limit=st.none() | st.integers(1, 9),
    warmth=st.none() | st.floats(0, 2),
)
def test_any_conversation_is_one_that_converse_takes(
    messages: list[dict[str, Any]], limit: int | None, warmth: float | None
) -> None:
    """Whatever the order of roles, blanks and parameters: opened by a user, Bedrock's rules are met."""
    translate({"messages": [HI, *messages], "max_tokens": limit, "temperature": warmth})
