"""Claude's own body on Bedrock: the Messages API (AWS's pages of inference parameters, "Anthropic Claude Messages")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

_VERSION = "bedrock-2023-05-31"
_MAX_TOKENS = 4096
"""Asked for where nobody bounds the answer: the body must have a bound."""
_BLOCKS = {"tool_use": "toolUse", "text": "text", "thinking": "reasoningContent"}


class Anthropic:
    """One call in the Messages API, told in Converse's words."""

    def __init__(self) -> None:
        self._usage: Json = {}

    def body(self, asked: Json) -> Json:
        """The body of a call with these arguments of Converse."""
        config = asked.get("inferenceConfig", {})
        body: Json = {
            "anthropic_version": _VERSION,
            "max_tokens": config.get("maxTokens", _MAX_TOKENS),
            "messages": [{"role": turn["role"], "content": _written(turn["content"])} for turn in asked["messages"]],
            **asked.get("additionalModelRequestFields", {}),
        }
        optional = {
            "system": _written(asked.get("system", ())),
            "temperature": config.get("temperature"),
            "top_p": config.get("topP"),
            "stop_sequences": config.get("stopSequences"),
            **_tools(asked.get("toolConfig")),
        }
        return body | {name: value for name, value in optional.items() if value not in (None, [])}

    def whole(self, answer: Json) -> Json:
        """A complete answer as one of Converse."""
        return {
            "output": {"message": {"content": [_read(block) for block in answer["content"]]}},
            "stopReason": answer["stop_reason"],
            "usage": _counts(answer["usage"]),
        }

    def events(self, chunk: Json) -> Iterator[Json]:
        """A chunk of a stream as events of ConverseStream."""
        kind = chunk["type"]
        if kind == "message_start":
            self._usage = chunk["message"].get("usage", {})
        elif kind == "content_block_start":
            start = _read({"input": {}, **chunk["content_block"]})
            yield {"contentBlockStart": {"start": start, "contentBlockIndex": chunk["index"]}}
        elif kind == "content_block_delta":
            yield {"contentBlockDelta": {"delta": _piece(chunk["delta"]), "contentBlockIndex": chunk["index"]}}
        elif kind == "content_block_stop":
            yield {"contentBlockStop": {"contentBlockIndex": chunk["index"]}}
        elif kind == "message_delta":
            yield {"messageStop": {"stopReason": chunk["delta"]["stop_reason"]}}
            yield {"metadata": {"usage": _counts({**self._usage, **chunk["usage"]})}}


def _written(blocks: Iterable[Json]) -> list[Json]:
    """Converse's blocks; a cache point belongs to the block before it."""
    found: list[Json] = []
    for block in blocks:
        if "cachePoint" in block and found:
            ttl = block["cachePoint"].get("ttl")
            found[-1]["cache_control"] = {"type": "ephemeral", "ttl": ttl} if ttl else {"type": "ephemeral"}
        elif "text" in block:
            found.append({"type": "text", "text": block["text"]})
        elif "image" in block:
            image = block["image"]
            source = {"type": "base64", "media_type": f"image/{image['format']}", "data": image["source"]["bytes"]}
            found.append({"type": "image", "source": source})
        elif "toolUse" in block:
            use = block["toolUse"]
            found.append({"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]})
        elif "toolResult" in block:
            result = block["toolResult"]
            content = _written(result["content"])
            found.append({"type": "tool_result", "tool_use_id": result["toolUseId"], "content": content})
    return found


def _tools(config: Json | None) -> Json:
    if config is None:
        return {}
    tools: list[Json] = []
    for tool in config["tools"]:
        if "cachePoint" in tool:
            tools[-1]["cache_control"] = {"type": "ephemeral"}
            continue
        spec = tool["toolSpec"]
        told = {"description": spec["description"]} if "description" in spec else {}
        tools.append({"name": spec["name"], **told, "input_schema": spec["inputSchema"]["json"]})
    choice = config.get("toolChoice")
    if choice is None:
        return {"tools": tools}
    chosen = {"type": "tool", "name": choice["tool"]["name"]} if "tool" in choice else {"type": "any"}
    return {"tools": tools, "tool_choice": chosen}


def _read(block: Json) -> Json:
    """A block of an answer as Converse has it; kinds that it has no word for are empty."""
    kind = _BLOCKS.get(block["type"])
    if kind == "toolUse":
        return {kind: {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}}
    if kind == "reasoningContent":
        return {kind: {"reasoningText": {"text": block["thinking"]}}}
    return {} if kind is None else {kind: block["text"]}


def _piece(delta: Json) -> Json:
    if delta["type"] == "text_delta":
        return {"text": delta["text"]}
    if delta["type"] == "input_json_delta":
        return {"toolUse": {"input": delta["partial_json"]}}
    return {"reasoningContent": {"text": delta["thinking"]}} if delta["type"] == "thinking_delta" else {}


def _counts(usage: Json) -> Json:
    return {
        "inputTokens": usage.get("input_tokens") or 0,
        "outputTokens": usage.get("output_tokens") or 0,
        "cacheReadInputTokens": usage.get("cache_read_input_tokens") or 0,
        "cacheWriteInputTokens": usage.get("cache_creation_input_tokens") or 0,
    }
