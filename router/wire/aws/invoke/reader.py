"""What InvokeModel answers, whole or in chunks, as pieces of an OpenAI answer.

Beside a family's own words Bedrock adds to a body what it counted (`amazon-bedrock-invocationMetrics`, in the last
chunk) and whether a guardrail stepped in (`amazon-bedrock-guardrailAction`). The counts of a whole answer are in
headers; they stand in where the family gives none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from router.domain.errors import ProtocolError
from router.domain.outcome import Delta, Usage
from router.wire.aws.bedrock_response import ConverseReader, read_converse
from router.wire.aws.invoke.families import Family
from router.wire.openai import read_chunk, read_response

Json = dict[str, Any]

METRICS = "amazon-bedrock-invocationMetrics"
GUARDRAIL = "amazon-bedrock-guardrailAction"
_COUNTS = {
    "inputTokens": "inputTokenCount",
    "outputTokens": "outputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}
_HEADERS = {"inputTokens": "x-amzn-bedrock-input-token-count", "outputTokens": "x-amzn-bedrock-output-token-count"}
_MISSHAPEN = (LookupError, TypeError, AttributeError, ValueError)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class InvokeReader:
    """Reads one answer of a family that is told in Converse's words. `told` are the members of the response beside its
    body: which tier, which latency."""

    def __init__(self, family: Family, *, optimized: bool = False) -> None:
        self._family = family
        self._reader = ConverseReader(optimized=optimized)
        self._optimized = optimized
        self._is_counted = False
        self._is_stopped = False

    @property
    def begun(self) -> bool:
        """Whether a piece of the answer has come."""
        return self._reader.begun

    @property
    def ended(self) -> bool:
        """Whether its stop reason has come."""
        return self._reader.ended

    def read(self, data: bytes, told: Json) -> Iterator[Delta]:
        """The pieces in a chunk; `ProtocolError` for what is none of this family."""
        try:
            chunk = _decode(data)
            self._is_stopped |= chunk.get(GUARDRAIL) == "INTERVENED"
            for event in self._events(chunk):
                if "metadata" in event:
                    self._is_counted = True
                    event["metadata"] |= _served(told)
                if self._is_stopped and "messageStop" in event:
                    event["messageStop"] = {"stopReason": "guardrail_intervened"}
                piece = self._reader.read(event)
                if piece is not None:
                    yield piece
        except _MISSHAPEN as error:
            raise ProtocolError(f"a chunk cannot be read: {type(error).__name__}") from None

    def _events(self, chunk: Json) -> Iterator[Json]:
        metrics = chunk.get(METRICS)
        yield from self._family.events(chunk)
        if metrics is not None and not self._is_counted:
            counts = {name: metrics[key] for name, key in _COUNTS.items() if key in metrics}
            yield {"metadata": {"usage": counts}}

    def whole(self, data: bytes, told: Json) -> Delta:
        """A complete answer; `ProtocolError` for what is none of this family."""
        try:
            answer = _decode(data)
            response = self._family.whole(answer)
            if len(response["usage"]) < 2:
                response["usage"] |= _headed(told)
            if answer.get(GUARDRAIL) == "INTERVENED":
                response["stopReason"] = "guardrail_intervened"
        except _MISSHAPEN as error:
            raise ProtocolError(f"an answer cannot be read: {type(error).__name__}") from None
        return read_converse(response | _served(told), optimized=self._optimized)


class ChatReader:
    """Reads one answer of a model that speaks OpenAI."""

    def __init__(self, *, optimized: bool = False) -> None:
        self.begun = False
        self.ended = False
        self._reader = ConverseReader(optimized=optimized)
        self._is_counted = False

    def read(self, data: bytes, told: Json) -> Iterator[Delta]:
        """The piece in a chunk; a `BackendError` for what is none."""
        piece = replace(read_chunk(data), served_as=self._reader.served_as(_served(told)))
        self._is_counted |= piece.usage is not None
        if not self._is_counted and METRICS.encode() in data:
            piece = replace(piece, usage=_counted(data))
        self.begun |= piece.choices != b"[]"
        self.ended |= piece.finish_reason is not None
        yield piece

    def whole(self, data: bytes, told: Json) -> Delta:
        """A complete answer; a `BackendError` for what is none."""
        return replace(read_response(data), served_as=self._reader.served_as(_served(told)))


def _served(told: Json) -> Json:
    """What a response's headers say of how it was served, as Converse puts it."""
    latency, tier = told.get("performanceConfigLatency"), told.get("serviceTier")
    served: Json = {} if latency is None else {"performanceConfig": {"latency": latency}}
    return served if tier is None else {**served, "serviceTier": {"type": tier}}


def _counted(data: bytes) -> Usage | None:
    """What Bedrock adds to a chunk, if it does: an answer may have the name in its text."""
    metrics = _decode(data).get(METRICS)
    return None if metrics is None else Usage(metrics.get("inputTokenCount", 0), metrics.get("outputTokenCount", 0))


def _headed(told: Json) -> dict[str, int]:
    """Tokens as the headers of a whole answer have them."""
    headers: Mapping[str, str] = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return {name: int(headers.get(header) or 0) for name, header in _HEADERS.items()}
