"""A streamed answer as the sender reads it: the JSON of each chat.completion.chunk, without SSE framing."""

from __future__ import annotations

from msgspec import json

from router.domain.errors import RouterError
from router.domain.outcome import Delta, Receipt, Reply
from router.domain.request import Request
from router.wire.openai.assemble import dissolve
from router.wire.openai.reply import completion_id, error_body, paid_usage_body

DONE = b"[DONE]"
_NOTHING_MORE = b'[{"index":0,"delta":{},"finish_reason":null}]'
"""Choices of a chunk that only says how the answer was made: some clients read the first choice unasked."""


class ChunkWriter:
    """Wraps the choices of each piece in one envelope: the same id, time and model throughout.

    `created` is wall seconds. Where the request asks for usage every chunk but the last says `"usage": null`.
    """

    __slots__ = ("_head", "_include_usage", "_tail")

    def __init__(self, request: Request, receipt: Receipt, created: int) -> None:
        head = b'{"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":'
        self._head = head % (
            json.encode(completion_id(receipt.decision_id)),
            created,
            json.encode(receipt.model),
        )
        self._include_usage = request.include_usage
        self._tail = b',"usage":null}' if request.include_usage else b"}"

    def pieces(self, delta: Delta) -> list[bytes]:
        """The chunks of one piece: none for a piece without choices, two for a whole answer."""
        if delta.whole:
            return [self._head + choices + self._tail for choices in dissolve(delta.choices)]
        if delta.choices == b"[]":
            return []
        return [self._head + delta.choices + self._tail]

    def end(self, reply: Reply) -> list[bytes]:
        """What comes after the last piece."""
        report = b',"router":' + reply.report if reply.report else b""
        if self._include_usage:
            return [self._head + b'[],"usage":' + paid_usage_body(reply) + report + b"}", DONE]
        if report:
            return [self._head + _NOTHING_MORE + report + b"}", DONE]
        return [DONE]

    def error(self, error: RouterError) -> list[bytes]:
        """What ends a stream that fails in the middle; without `[DONE]` it cannot pass for an answer."""
        return [error_body(error)]
