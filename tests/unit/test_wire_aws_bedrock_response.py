"""`router.wire.aws.bedrock_response`: what Converse's answers become."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.errors import ProtocolError
from router.domain.outcome import Delta, Usage
from router.doubles.aws.call import Call, Event, Json
from router.doubles.aws.models import Answer, Model, ToolUse, words
from router.doubles.aws.runtime.converse import answer_events, whole_answer
from router.doubles.aws.runtime.prompt import Prompt
from router.doubles.aws.runtime.serving import Asked, Serving, admit
from router.doubles.aws.world import World
from router.wire.aws.bedrock_response import ConverseReader, read_converse
from router.wire.openai import assemble


async def at_once(_: float) -> None:
    """A model that takes no time."""


def served(answer: Answer) -> Serving:
    world = World(default=Model("m", says=answer), sleep=at_once)
    call = Call("bedrock-runtime", "Converse", {"modelId": "m"}, "eu-west-1", "123456789012")
    return admit(world, call, Prompt((), 0), Asked())


def converse_answer(answer: Answer) -> Json:
    """The whole answer, as the double gives it."""
    serving = served(answer)
    asyncio.run(serving.whole())
    return whole_answer(serving)


def stream_frames(answer: Answer) -> list[Event]:
    """The events of the answer, as the double gives them."""

    async def gathered() -> list[Event]:
        return [event async for event in answer_events(served(answer))]

    return asyncio.run(gathered())


def streamed(answer: Answer) -> list[Delta]:
    reader = ConverseReader()
    deltas = [reader.read({name: body}) for name, body in stream_frames(answer)]
    return [delta for delta in deltas if delta is not None]


def choice(deltas: list[Delta]) -> dict[str, Any]:
    (only,) = msgspec.json.decode(assemble(deltas))
    return only


def test_text() -> None:
    """A streamed text is an assistant message that stopped of itself."""
    assert choice(streamed(words(3))) == {
        "index": 0,
        "message": {"role": "assistant", "content": "word0 word1 word2 "},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_first_piece_holds_text_and_role() -> None:
    """The role comes with the first text, so the first piece is the first token."""
    first = streamed(words(2))[0]
    assert msgspec.json.decode(first.choices)[0]["delta"] == {"role": "assistant", "content": "word0 "}
    assert first.tokens == 1


def test_tool_calls() -> None:
    """Tool calls come with id, name and the arguments as they are streamed, numbered from 0."""
    tools = (ToolUse("t1", "weather", ('{"pla', 'ce":"Bern"}')), ToolUse("t2", "now", ()))
    answer = Answer(pieces=("Let me see.",), tools=tools, stop_reason="tool_use")
    pieces = [
        call
        for d in streamed(answer)
        for c in msgspec.json.decode(d.choices)
        for call in c["delta"].get("tool_calls", ())
    ]
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1, 1]
    whole = choice(streamed(answer))
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] == "Let me see."
    assert whole["message"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Bern"}'}},
        {"id": "t2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


def test_tool_call_alone_has_null_content() -> None:
    """An answer of a tool call alone has null content, as OpenAI's has."""
    answer = Answer(pieces=(), tools=(ToolUse("t1", "now", ("{}",)),), stop_reason="tool_use")
    assert choice(streamed(answer))["message"]["content"] is None


def test_reasoning() -> None:
    """Reasoning comes as `reasoning_content`, apart from the answer."""
    message = choice(streamed(Answer(pieces=("42",), reasoning=("Hmm, ", "so."))))["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hmm, so.", "42")


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("a_reason_of_next_year", "stop"),
    ],
)
def test_stop_reasons(stop_reason: str, finish_reason: str) -> None:
    """Every stop reason is one that OpenAI clients know, streamed and whole."""
    answer = Answer(pieces=("x",), stop_reason=stop_reason)
    assert choice(streamed(answer))["finish_reason"] == finish_reason
    assert read_converse(converse_answer(answer)).finish_reason == finish_reason


@pytest.mark.parametrize("stop_reason", ["malformed_model_output", "malformed_tool_use"])
def test_malformed_output(stop_reason: str) -> None:
    """Output that Bedrock itself calls malformed is a ProtocolError, not an answer."""
    with pytest.raises(ProtocolError):
        read_converse(converse_answer(Answer(pieces=("x",), stop_reason=stop_reason)))


def test_usage_counts_the_cache() -> None:
    """Input tokens include what was read from and written to the prompt cache; both are told apart."""
    answer = Answer(("x",), input_tokens=10, output_tokens=4, cache_read_tokens=100, cache_write_tokens=7)
    expected = Usage(input_tokens=117, output_tokens=4, cached_tokens=100, cache_written_tokens=7)
    assert [delta.usage for delta in streamed(answer) if delta.usage] == [expected]
    assert read_converse(converse_answer(answer)).usage == expected


def test_prompt_router_names_the_model() -> None:
    """Where a prompt router chose, the model it invoked is the one that served."""
    answer = Answer(("x",), routed_to="arn:aws:bedrock:us-east-1::foundation-model/m.n-v1:0")
    assert streamed(answer)[-1].served_model == answer.routed_to
    assert read_converse(converse_answer(answer)).served_model == answer.routed_to


def test_empty_answer() -> None:
    """An answer without a word is an empty string, not nothing."""
    for deltas in (streamed(Answer(())), [read_converse(converse_answer(Answer(())))]):
        assert choice(deltas)["message"] == {"role": "assistant", "content": ""}


def test_ended_only_by_the_stop_reason() -> None:
    """A reader tells a stream that broke off from one that ended, and a silent one from one that began."""
    reader = ConverseReader()
    events = [{name: body} for name, body in stream_frames(words(2))]
    seen = []
    for event in events:
        reader.read(event)
        seen.append((next(iter(event)), reader.begun, reader.ended))
    assert seen[0] == ("messageStart", False, False)
    assert seen[1] == ("contentBlockDelta", True, False)
    assert seen[-2] == ("messageStop", True, True)


TOOL = st.builds(
    lambda name, arguments: ToolUse(name, name, tuple(msgspec.json.encode(arguments).decode())),
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
)


@given(
    pieces=st.lists(st.text(min_size=1), max_size=4),
    reasoning=st.lists(st.text(min_size=1), max_size=2),
    tools=st.lists(TOOL, max_size=3),
)
def test_streamed_and_whole_are_the_same(pieces: list[str], reasoning: list[str], tools: list[ToolUse]) -> None:
    """The assembled pieces of a stream equal the whole answer, byte for byte."""
    answer = Answer(tuple(pieces), tuple(reasoning), tuple(tools))
    assert assemble(streamed(answer)) == read_converse(converse_answer(answer)).choices


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
EVENTS = ["contentBlockDelta", "contentBlockStart", "contentBlockStop", "messageStop", "metadata", "other"]
FIELDS = [
    "delta",
    "start",
    "contentBlockIndex",
    "stopReason",
    "usage",
    "text",
    "toolUse",
    "inputTokens",
    "trace",
]


@given(name=st.sampled_from(EVENTS), body=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_nonsense_is_a_protocol_error(name: str, body: Any) -> None:
    """Whatever stands in an event, reading it gives a piece, nothing, or a ProtocolError."""
    with suppress(ProtocolError):
        assert isinstance(ConverseReader().read({name: body}), Delta | None)


@given(response=JSON | st.dictionaries(st.sampled_from(["output", "stopReason", "usage"]), JSON))
def test_nonsense_for_an_answer(response: Any) -> None:
    """Whatever comes for a whole answer, what is not one is a ProtocolError."""
    with pytest.raises(ProtocolError):
        read_converse(response)
