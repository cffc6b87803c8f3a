"""What is read from the answers of InvokeModel, whole and streamed, of each family."""

from __future__ import annotations

import msgspec
import pytest

from router.domain.aws.terms import Api, AwsTerms, Latency, Payload
from router.domain.errors import ProtocolError
from router.domain.outcome import Delta, Usage
from router.wire.aws.exchange import exchange_for
from router.wire.openai import assemble
from tests.unit.invoked_models import IDS, INVOKED, Json, attempt


def text_and_reason(deltas: list[Delta]) -> tuple[str, str]:
    (choice,) = msgspec.json.decode(assemble(deltas))
    return choice["message"]["content"], choice["finish_reason"]


def streamed(payload: Payload, *chunks: Json, told: Json | None = None) -> list[Delta]:
    exchange = exchange_for(attempt(IDS[payload]))
    events = [{"chunk": {"bytes": msgspec.json.encode(chunk)}} for chunk in chunks]
    deltas = [delta for event in events for delta in exchange.read(event, told or {})]
    assert exchange.ended
    return deltas


def whole(payload: Payload, answer: Json, told: Json | None = None, terms: AwsTerms = INVOKED) -> Delta:
    return exchange_for(attempt(IDS[payload], terms=terms)).whole(told or {}, msgspec.json.encode(answer))


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 3}}
WHOLE: dict[Payload, Json] = {
    Payload.ANTHROPIC: {
        "content": [{"type": "text", "text": "Good bye"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 3},
    },
    Payload.LLAMA: {
        "generation": "Good bye",
        "prompt_token_count": 12,
        "generation_token_count": 3,
        "stop_reason": "stop",
    },
    Payload.MISTRAL: {"outputs": [{"text": "Good bye", "stop_reason": "stop"}]},
    Payload.TITAN: {
        "inputTextTokenCount": 12,
        "results": [{"tokenCount": 3, "outputText": "Good bye", "completionReason": "FINISH"}],
    },
    Payload.NOVA: {
        "output": {"message": {"role": "assistant", "content": [{"text": "Good bye"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15},
    },
    Payload.OPENAI: {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good bye"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
        "model": "gpt-oss-20b",
    },
}
HEADERS = {
    "ResponseMetadata": {
        "HTTPHeaders": {"x-amzn-bedrock-input-token-count": "12", "x-amzn-bedrock-output-token-count": "3"}
    }
}
CHUNKS: dict[Payload, list[Json]] = {
    Payload.ANTHROPIC: [
        {"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Good "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "bye"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop", **METRICS},
    ],
    Payload.LLAMA: [
        {"generation": "Good ", "prompt_token_count": 12, "generation_token_count": 1, "stop_reason": None},
        {"generation": "bye", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": None},
        {
            "generation": "",
            "prompt_token_count": None,
            "generation_token_count": 3,
            "stop_reason": "stop",
            **METRICS,
        },
    ],
    Payload.MISTRAL: [
        {"outputs": [{"text": "Good ", "stop_reason": None}]},
        {"outputs": [{"text": "bye", "stop_reason": "stop"}], **METRICS},
    ],
    Payload.TITAN: [
        {"outputText": "Good ", "index": 0, "completionReason": None, "inputTextTokenCount": 12},
        {
            "outputText": "bye",
            "index": 0,
            "totalOutputTextTokenCount": 3,
            "completionReason": "FINISH",
            "inputTextTokenCount": 12,
            **METRICS,
        },
    ],
    Payload.NOVA: [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Good "}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "bye"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 12, "outputTokens": 3}, "metrics": {}}, **METRICS},
    ],
    Payload.OPENAI: [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Good "}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "bye"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **METRICS},
    ],
}


@pytest.mark.parametrize("payload", WHOLE)
def test_a_whole_answer_of_each_family(payload: Payload) -> None:
    """Text, finish reason, and tokens: of the body, else of the headers."""
    delta = whole(payload, WHOLE[payload], HEADERS)
    assert text_and_reason([delta]) == ("Good bye", "stop")
    assert (delta.usage, delta.tokens, delta.whole) == (Usage(12, 3), 3, True)


@pytest.mark.parametrize("payload", CHUNKS)
def test_a_streamed_answer_of_each_family(payload: Payload) -> None:
    """The same pieces in order, one finish reason, and the usage once."""
    deltas = streamed(payload, *CHUNKS[payload])
    assert text_and_reason(deltas) == ("Good bye", "stop")
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(12, 3)]


@pytest.mark.parametrize("payload", CHUNKS)
def test_how_it_was_served_is_in_the_headers(payload: Payload) -> None:
    """The tier of a response stands for a lane, its latency for one that asked for optimised."""
    told = {"serviceTier": "flex", "performanceConfigLatency": "standard"}
    served = {delta.served_as for delta in streamed(payload, *CHUNKS[payload], told=told)} - {None}
    assert served == {"flex"}
    optimized = AwsTerms(api=Api.INVOKE, latency=Latency.OPTIMIZED)
    assert whole(payload, WHOLE[payload], HEADERS | told, optimized).served_as == "standard"


def test_anthropic_streams_a_tool_call() -> None:
    """Name first, then its arguments in pieces, and the reason that a client waits for."""
    deltas = streamed(
        Payload.ANTHROPIC,
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 90}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "weather"},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
    )
    (choice,) = msgspec.json.decode(assemble(deltas))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"a":1}'}
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(95, 9, cached_tokens=90)]


@pytest.mark.parametrize(
    ("payload", "chunk"),
    [
        (Payload.LLAMA, {"generation": "x", "stop_reason": "length", **METRICS}),
        (Payload.TITAN, {"outputText": "x", "completionReason": "LENGTH", **METRICS}),
    ],
)
def test_an_answer_that_was_cut_says_so(payload: Payload, chunk: Json) -> None:
    """Each family has its own word for the length."""
    assert text_and_reason(streamed(payload, chunk)) == ("x", "length")


@pytest.mark.parametrize("payload", [p for p in WHOLE if p is not Payload.OPENAI])
def test_a_guardrail_that_steps_in_is_a_filter(payload: Payload) -> None:
    """Whatever the model itself gave as its reason."""
    stopped = {"amazon-bedrock-guardrailAction": "INTERVENED"}
    assert whole(payload, WHOLE[payload] | stopped, HEADERS).finish_reason == "content_filter"
    *first, last = CHUNKS[payload]
    chunks = [{**chunk, **stopped} for chunk in first]
    assert "content_filter" in {d.finish_reason for d in streamed(payload, *chunks, {**last, **stopped})}


@pytest.mark.parametrize("payload", WHOLE)
@pytest.mark.parametrize("data", [b"[]", b"{", b'{"type": 3, "outputs": 3, "content": 3}', b"\xff"])
def test_nonsense_is_a_protocol_error(payload: Payload, data: bytes) -> None:
    """Nothing else is raised, whatever the bytes."""
    with pytest.raises(ProtocolError):
        exchange_for(attempt(IDS[payload])).whole({}, data)


@pytest.mark.parametrize("payload", WHOLE)
def test_an_answer_can_be_asked_for_shorter(payload: Payload) -> None:
    """By the family's own name for the bound; nothing else of the body changes."""
    exchange = exchange_for(attempt(IDS[payload], max_tokens=4000))
    exchange.shorten(77)
    text = exchange.counted()["invokeModel"]["body"]
    assert b"77" in text
    assert b"4000" not in text
