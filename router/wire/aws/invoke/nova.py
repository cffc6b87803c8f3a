"""Amazon Nova's own body on Bedrock: Converse's words in a body (AWS's page "Complete request schema" of Nova)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_EVENTS = ("contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")


class Nova:
    """One call of Nova. Pictures are bytes here and base64 in the body."""

    def body(self, asked: Json) -> Json:
        """The body of a call with these arguments of Converse."""
        members: Json = {name: asked[name] for name in ("messages", "system", "toolConfig") if name in asked}
        further = asked.get("additionalModelRequestFields", {}).get("inferenceConfig", {})
        config = asked.get("inferenceConfig", {}) | further
        return {"schemaVersion": "messages-v1", **members, **({"inferenceConfig": config} if config else {})}

    def whole(self, answer: Json) -> Json:
        """A complete answer as one of Converse."""
        return {**answer, "usage": _counts(answer["usage"])}

    def events(self, chunk: Json) -> Iterator[Json]:
        """A chunk of a stream as events of ConverseStream."""
        for name in _EVENTS:
            if name in chunk:
                body = chunk[name]
                yield {name: {"usage": _counts(body["usage"])} if name == "metadata" else body}


def _counts(usage: Json) -> Json:
    """Nova has its own names for what the prompt cache did."""
    return {
        "inputTokens": usage["inputTokens"],
        "outputTokens": usage["outputTokens"],
        "cacheReadInputTokens": usage.get("cacheReadInputTokenCount") or 0,
        "cacheWriteInputTokens": usage.get("cacheWriteInputTokenCount") or 0,
    }
