"""Reading chat-completions requests, and the body that goes upstream."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.decision import DecisionId
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import RequestError
from router.domain.outcome import Attempt, AttemptId
from router.domain.request import Capability, Request
from router.wire.openai import Envelope, read_body, read_request, upstream_body

ENVELOPE = Envelope(id="r1", arrived=5.0, at=1e9, source="http", tenant="blue", attributes=(("a", "1"),))
USER = {"role": "user", "content": "hi"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "messages",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "n",
    "tools",
    "metadata",
    "stop",
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool", "x"])},
        optional={"content": st.text() | st.lists(json_values, max_size=3) | json_values, "tool_calls": json_values},
    ),
    max_size=4,
)


def read(**fields: Any) -> Request:
    return read_request(json.dumps({"messages": [USER], **fields}).encode(), ENVELOPE)


def refusal(body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_request(body, ENVELOPE)
    return caught.value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_request_or_a_request_error(body: bytes) -> None:
    """No bytes make the reader fail in any other way."""
    try:
        read_request(body, ENVELOPE)
    except RequestError as error:
        assert error.code in {"invalid_json", "invalid_request"}  # noqa: PT017  # may be raised, need not


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6), st.none() | messages)
def test_any_json_object_gives_a_request_or_a_request_error(fields: dict[str, Any], said: list[Any] | None) -> None:
    """Whatever stands in the fields that are read, the outcome is a consistent request or an error with its place."""
    if said is not None:
        fields["messages"] = said
    body = json.dumps(fields).encode()
    try:
        request = read_request(body, ENVELOPE)
    except RequestError as error:
        assert error.message  # noqa: PT017  # may be raised, need not
        return
    assert request.payload == body
    assert request.input_tokens >= 4 * len(fields["messages"])


def test_the_envelope_and_the_body_make_the_request() -> None:
    """The request carries what the transport knew, what the body says, and the body as it came."""
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]},
    ]
    request = read(messages=said, model="small-0", max_tokens=9, stream=True, stream_options={"include_usage": True})
    assert (request.id, request.arrived, request.at, request.tenant) == ("r1", 5.0, 1e9, "blue")
    assert (request.model, request.max_tokens, request.stream, request.include_usage) == ("small-0", 9, True, True)
    assert request.prompt.last_user == "three\nfour"
    assert request.prompt.system == "Be brief.\nAnd kind."
    assert (request.prompt.turns, request.prompt.chars) == (2, 33)
    assert json.loads(request.payload)["messages"] == said


@pytest.mark.parametrize("model", [None, "", "auto"])
def test_no_model_and_auto_are_the_same(model: str | None) -> None:
    """A request that leaves the choice to the router names no model."""
    assert read(model=model).model is None
    assert read().model is None


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {Capability.TOOLS}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {Capability.JSON}),
        ({"response_format": {"type": "text"}}, set()),
        ({"logprobs": True}, {Capability.LOGPROBS}),
        ({"n": 2}, {Capability.CHOICES}),
        ({"n": 1, "logprobs": False, "tools": []}, set()),
    ],
)
def test_what_a_request_needs_of_a_deployment(fields: dict[str, Any], needs: set[Capability]) -> None:
    """Tools, JSON output, logprobs and several choices are needs; their defaults are not."""
    assert read(**fields).needs == needs


def test_images_are_counted_and_needed() -> None:
    """An image counts as itself and as tokens, not by the length of its data."""
    url = "data:image/png;base64," + "A" * 100_000
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
    request = read(messages=[{"role": "user", "content": parts}])
    assert request.needs == {Capability.IMAGES}
    assert (request.prompt.images, request.prompt.chars) == (1, 5)
    assert 765 < request.input_tokens < 800


def test_input_tokens_grow_with_text_in_any_script() -> None:
    """About 3.6 bytes make a token and a message costs four: a CJK character is near one token."""
    assert read(messages=[{"role": "user", "content": "x" * 3600}]).input_tokens == 1004
    assert read(messages=[{"role": "user", "content": "語" * 1200}]).input_tokens == 1004
    assert read(messages=[USER] * 10).input_tokens == 46


def test_tool_schemas_and_calls_count_as_input() -> None:
    """What the model reads of tools, their descriptions, schemas and earlier calls, counts as input."""
    function = {"name": "f", "description": "d" * 360, "parameters": {"type": "x" * 360}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "a" * 360}}
    bare = read().input_tokens
    assert read(tools=[{"type": "function", "function": function}]).input_tokens - bare > 200
    said = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert read(messages=said).input_tokens - bare > 100


def test_completion_bound_has_two_names() -> None:
    """`max_completion_tokens` is the present name and wins over `max_tokens`."""
    assert read(max_completion_tokens=5, max_tokens=9).max_tokens == 5
    assert read(max_tokens=9).max_tokens == 9
    assert read().max_tokens is None


def test_text_pairs_of_metadata_become_attributes() -> None:
    """Text in `metadata` can be matched on; what the transport said of the same name wins; other types do not count."""
    request = read(metadata={"use_case": "chat", "a": "2", "n": 3})
    assert request.attributes == (("a", "1"), ("use_case", "chat"))
    assert read(metadata=None).attributes == read(metadata=[1]).attributes == (("a", "1"),)
    assert len(read(metadata={str(n): "x" for n in range(40)}).attributes) == 17


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "king", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stop": 5}, "stop"),
        ({"model": 5}, "model"),
        ({"tools": [{}]}, "tools[0]"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """A body that does not fit is an invalid_request whose param is the path to the fault."""
    error = refusal(json.dumps({"messages": [USER], **fields}).encode())
    assert (error.code, error.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"messages":[{"role":"user","content":"x"}]} x',
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"unread":"\xff"}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"deep":' + b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_said_so(body: bytes) -> None:
    """Bytes that are no JSON text, in read fields or not, are an invalid_json."""
    assert refusal(body).code == "invalid_json"


def test_a_body_that_is_no_object() -> None:
    """JSON of another shape is an invalid_request without a place."""
    assert (refusal(b"[]").code, refusal(b"[]").param) == ("invalid_request", None)


def test_content_may_be_null_where_tools_are_called() -> None:
    """An assistant that called tools, or refused, need not have said anything else."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for more in ({"tool_calls": [call]}, {"refusal": "no"}, {"function_call": {"name": "f", "arguments": "{}"}}):
        assert read(messages=[USER, {"role": "assistant", "content": None, **more}]).prompt.chars == 2
    assert read(messages=[USER, {"role": "tool", "tool_call_id": "1", "content": "42"}]).prompt.chars == 4


def test_body_for_translation_keeps_schemas_and_images_as_json() -> None:
    """Who translates the body finds schemas and image sources as raw JSON."""
    parts = [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    fields = {"messages": [{"role": "user", "content": parts}], "tools": [tool], "stop": "END", "max_tokens": 3}
    body = read_body(json.dumps(fields).encode())
    (part,) = body.messages[0].content or ()
    assert isinstance(part, msgspec.Struct)
    assert msgspec.json.decode(part.image_url) == {"url": "http://x/y.png"}
    assert body.tools is not None
    assert body.tools[0].function is not None
    assert msgspec.json.decode(body.tools[0].function.parameters) == {"type": "object"}
    assert (body.stop, body.output_limit) == ("END", 3)


def upstream(
    payload: dict[str, Any],
    *,
    stream: bool = True,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
) -> dict[str, Any]:
    deployment = Deployment(
        name=DeploymentName("one"),
        group="one",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("openai_http", "org/m-8b"),
        price=Price(1.0, 2.0),
    )
    attempt = Attempt(
        id=AttemptId("a1"),
        decision_id=DecisionId("d1"),
        request=read_request(json.dumps(payload).encode(), ENVELOPE),
        deployment=deployment,
        number=1,
        started=0.0,
        deadline=None,
        stream=stream,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
    )
    said: dict[str, Any] = json.loads(upstream_body(attempt))
    return said


def test_upstream_body_changes_model_and_streaming_only() -> None:
    """Every other field goes up as it came, known or not."""
    payload = {"messages": [USER], "model": "auto", "seed": 1, "x": {"y": [1, 2.5, None]}, "metadata": {"k": "v"}}
    rest = {key: value for key, value in payload.items() if key != "model"}
    assert upstream(payload) == {
        **rest,
        "model": "org/m-8b",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    asked = {**payload, "stream": True, "stream_options": {"include_usage": False}}
    assert upstream(asked, stream=False) == {**rest, "model": "org/m-8b"}


def test_upstream_body_fills_in_where_the_sender_is_silent() -> None:
    """The class's parameters go in where the request has none, or null, and never over the sender's."""
    payload = {"messages": [USER], "temperature": None}
    said = upstream(payload, max_tokens=64, temperature=0.3, top_p=0.9)
    assert (said["max_tokens"], said["temperature"], said["top_p"]) == (64, 0.3, 0.9)
    own = {"messages": [USER], "max_completion_tokens": 5, "temperature": 0, "top_p": 1}
    said = upstream(own, max_tokens=64, temperature=0.3, top_p=0.9)
    assert (said["max_completion_tokens"], said["temperature"], said["top_p"]) == (5, 0, 1)
    assert "max_tokens" not in said


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key not in FIELDS), json_values, max_size=5))
def test_upstream_body_keeps_any_extra_field(extra: dict[str, Any]) -> None:
    """A field that nothing here knows reaches the upstream with its value."""
    known = {"top_p", "top_logprobs", "logprobs", "presence_penalty", "frequency_penalty", "tool_choice"}
    known |= {"response_format", "max_completion_tokens"}
    extra = {key: value for key, value in extra.items() if key not in known}
    said = upstream({"messages": [USER], **extra})
    assert {key: said[key] for key in extra} == extra
