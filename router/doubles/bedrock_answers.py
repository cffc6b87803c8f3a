"""The scripted answer as Bedrock spells it: whole, in events, and in the Llama body of InvokeModel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from router.doubles.bedrock_faults import Answer, ToolUse


def converse_answer(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a Converse response."""
    pieces, stop_reason = _cut_to_limit(answer, body)
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"reasoningContent": {"reasoningText": {"text": "".join(answer.reasoning)}}})
    if pieces:
        content.append({"text": "".join(pieces)})
    content.extend({"toolUse": _whole_tool(tool)} for tool in answer.tools)
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason,
        **_accounts(answer, body, len(pieces)),
    }


def stream_frames(answer: Answer, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a ConverseStream response, in order: (event name, payload)."""
    pieces, stop_reason = _cut_to_limit(answer, body)
    yield "messageStart", {"role": "assistant"}
    index = 0
    for kind, texts in (("reasoningContent", answer.reasoning), ("text", pieces)):
        for text in texts:
            delta: dict[str, Any] = {"text": text}
            yield _delta(index, delta if kind == "text" else {kind: delta})
        if texts:
            yield "contentBlockStop", {"contentBlockIndex": index}
            index += 1
    for tool in answer.tools:
        start = {"toolUse": {"toolUseId": tool.id, "name": tool.name}}
        yield "contentBlockStart", {"start": start, "contentBlockIndex": index}
        for text in tool.arguments:
            yield _delta(index, {"toolUse": {"input": text}})
        yield "contentBlockStop", {"contentBlockIndex": index}
        index += 1
    yield "messageStop", {"stopReason": stop_reason}
    yield "metadata", _accounts(answer, body, len(pieces))


def invoke_answer(answer: Answer, body: dict[str, Any]) -> dict[str, Any]:
    """The Llama response body of InvokeModel."""
    prompt = msgspec.json.decode(body["body"]).get("prompt", "")
    return {
        "generation": "".join(answer.pieces),
        "prompt_token_count": len(prompt.split()),
        "generation_token_count": len(answer.pieces),
        "stop_reason": "stop",
    }


def count_tokens(body: dict[str, Any]) -> int:
    """Words in every text of the input, counted as tokens."""
    return sum(len(text.split()) for text in _texts(body))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def _cut_to_limit(answer: Answer, body: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    limit = body.get("inferenceConfig", {}).get("maxTokens")
    if limit is not None and limit < len(answer.pieces):
        return answer.pieces[:limit], "max_tokens"
    return answer.pieces, answer.stop_reason


def _delta(index: int, delta: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"delta": delta, "contentBlockIndex": index}


def _whole_tool(tool: ToolUse) -> dict[str, Any]:
    return {
        "toolUseId": tool.id,
        "name": tool.name,
        "input": msgspec.json.decode("".join(tool.arguments) or "{}"),
    }


def _accounts(answer: Answer, body: dict[str, Any], pieces: int) -> dict[str, Any]:
    """`inputTokens` leaves out what was read from or written to the cache, as Bedrock's does."""
    cached = answer.cache_read_tokens + answer.cache_write_tokens
    given = count_tokens(body) if answer.input_tokens is None else answer.input_tokens
    made = pieces if answer.output_tokens is None else answer.output_tokens
    usage: dict[str, int] = {"inputTokens": given, "outputTokens": made, "totalTokens": given + made + cached}
    if cached:
        usage["cacheReadInputTokens"] = answer.cache_read_tokens
        usage["cacheWriteInputTokens"] = answer.cache_write_tokens
    accounts: dict[str, Any] = {"usage": usage, "metrics": {"latencyMs": 1}}
    if answer.routed_to is not None:
        accounts["trace"] = {"promptRouter": {"invokedModelId": answer.routed_to}}
    return accounts
