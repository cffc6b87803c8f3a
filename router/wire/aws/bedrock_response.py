"""What Converse answers, whole or in events, as pieces of an OpenAI answer."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import msgspec

from router.domain.errors import ProtocolError
from router.domain.outcome import Delta, Usage
from router.wire.openai import assemble, text_tokens

Json = dict[str, Any]
"""A Converse structure, as the SDK gives it."""

_FINISH_REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",
}
"""Converse's `stopReason` as `finish_reason`; `end_turn`, `stop_sequence` and unknown reasons are `stop`. Claude's own
body says `refusal` where Anthropic's classifiers ended the answer."""
_ONE_TOKEN_CHARS = 20
"""A piece up to this long is taken for one token, until the usage comes."""
_MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError)
_encode = msgspec.json.encode


class Malformed(ProtocolError):
    """The model's output cannot be used; its tokens are billed all the same."""

    def __init__(self, stop_reason: str, usage: Usage) -> None:
        super().__init__(f"the model's output is malformed ({stop_reason})")
        self.usage = usage


def read_converse(response: Json, *, optimized: bool = False) -> Delta:
    """The complete answer of Converse; `ProtocolError` for what is not one, `Malformed` where it tells its tokens."""
    try:
        reader = ConverseReader(optimized=optimized)
        usage = _usage(response["usage"])
        if _is_malformed(response["stopReason"]):
            raise Malformed(response["stopReason"], usage)
        pieces = list(_events_of(reader, response))
        return Delta(
            choices=assemble(pieces),
            tokens=usage.output_tokens,
            finish_reason=pieces[-1].finish_reason,
            usage=usage,
            whole=True,
            served_model=_invoked_model(response),
            served_as=reader.served_as(response),
        )
    except _MISSHAPEN as error:
        raise ProtocolError(f"a Converse answer cannot be read: {type(error).__name__}") from None


def _events_of(reader: ConverseReader, response: Json) -> Iterator[Delta]:
    """The pieces that a stream of this answer would have given."""
    for index, block in enumerate(response["output"]["message"]["content"]):
        delta = block
        if "toolUse" in block:
            delta = {"toolUse": {"input": _encode(block["toolUse"]["input"]).decode()}}
        elif "reasoningContent" in block:
            delta = {"reasoningContent": block["reasoningContent"].get("reasoningText", {})}
        for event in (
            {"contentBlockStart": {"start": block, "contentBlockIndex": index}},
            {"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}},
        ):
            piece = reader.read(event)
            if piece is not None:
                yield piece
    yield reader.end(response["stopReason"])


class ConverseReader:
    """Reads the events of one ConverseStream in order.

    `begun` turns true with the first piece of an answer, `ended` with the stop reason: a stream that closes
    before that broke off. Output that is called malformed does not end: what it cost is told after it. `optimized`:
    latency-optimised inference was asked for, so that what was served is told by the latency and not by the service
    tier.
    """

    __slots__ = ("_optimized", "_silent", "_tools", "begun", "ended")

    def __init__(self, *, optimized: bool = False) -> None:
        self._optimized = optimized
        self.begun = False
        self.ended = False
        self._tools: dict[int, int] = {}
        self._silent: set[int] = set()

    def read(self, event: Json) -> Delta | None:
        """The piece in an event, if it holds one; `ProtocolError` for what is not an event of Converse."""
        try:
            name, body = next(iter(event.items()))
            if name == "contentBlockDelta":
                return self._delta(body["delta"], body["contentBlockIndex"])
            if name == "contentBlockStart":
                return self._start(body["start"], body["contentBlockIndex"])
            if name == "contentBlockStop":
                return self._stop(body["contentBlockIndex"])
            if name == "messageStop":
                return None if _is_malformed(body["stopReason"]) else self.end(body["stopReason"])
            if name == "metadata":
                usage = _usage(body["usage"])
                return Delta(usage=usage, served_model=_invoked_model(body), served_as=self.served_as(body))
        except _MISSHAPEN as error:
            raise ProtocolError(f"a Converse event cannot be read: {type(error).__name__}") from None
        return None

    def served_as(self, body: Json) -> str | None:
        """Over its quota an optimised call is served, and billed, as `standard`; a tier may be served as another."""
        part, name = ("performanceConfig", "latency") if self._optimized else ("serviceTier", "type")
        told: str | None = body.get(part, {}).get(name)
        return told

    def _start(self, start: Json, block: int) -> Delta | None:
        if "toolUse" not in start:
            return None
        number = self._tools[block] = len(self._tools)
        self._silent.add(block)
        name = start["toolUse"]["name"]
        function = {"name": name, "arguments": ""}
        call = {
            "index": number,
            "id": start["toolUse"]["toolUseId"],
            "type": "function",
            "function": function,
        }
        return self._piece({"tool_calls": [call]}, name)

    def _delta(self, delta: Json, block: int) -> Delta | None:
        """Text, reasoning or tool arguments; signatures and citations have no OpenAI counterpart."""
        if "text" in delta:
            text = delta["text"]
            return self._piece({"content": text}, text) if text else None
        if "toolUse" in delta:
            return self._arguments(delta["toolUse"]["input"], block)
        text = delta.get("reasoningContent", {}).get("text")
        return self._piece({"reasoning_content": text}, text) if text else None

    def _arguments(self, text: str, block: int) -> Delta | None:
        if not text:
            return None
        self._silent.discard(block)
        return self._piece({"tool_calls": [{"index": self._tools[block], "function": {"arguments": text}}]}, text)

    def _stop(self, block: int) -> Delta | None:
        """A tool without parameters may come without arguments, where OpenAI promises a JSON object."""
        return self._arguments("{}", block) if block in self._silent else None

    def end(self, stop_reason: str) -> Delta:
        """The last piece of an answer."""
        self.ended = True
        reason = _FINISH_REASONS.get(stop_reason, "stop")
        return self._piece({} if self.begun else {"content": ""}, "", reason)

    def _piece(self, said: Json, text: str, finish_reason: str | None = None) -> Delta:
        if not self.begun:
            self.begun = True
            said = {"role": "assistant", "content": None, **said}
        tokens = ceil(text_tokens(text)) if len(text) > _ONE_TOKEN_CHARS else min(len(text), 1)
        choices = _encode([{"index": 0, "delta": said, "finish_reason": finish_reason}])
        return Delta(choices=choices, tokens=tokens, finish_reason=finish_reason)


def _is_malformed(stop_reason: str) -> bool:
    return stop_reason.startswith("malformed_")


def _usage(usage: Json) -> Usage:
    """Converse's `inputTokens` leaves out what went through the prompt cache; ours counts it."""
    cached, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    return Usage(
        input_tokens=usage["inputTokens"] + cached + written,
        output_tokens=usage["outputTokens"],
        cached_tokens=cached,
        cache_written_tokens=written,
    )


def _invoked_model(body: Json) -> str | None:
    """The model that a prompt router chose, if one was asked."""
    model: str | None = body.get("trace", {}).get("promptRouter", {}).get("invokedModelId")
    return model
