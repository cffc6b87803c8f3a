"""The OpenAI chat-completions format under one name; streams to the sender are in `stream`."""

from __future__ import annotations

from router.wire.openai.assemble import assemble, dissolve
from router.wire.openai.reply import completion_body, debug_fields, error_body, receipt_fields
from router.wire.openai.request import ChatBody, Envelope, read_body, read_request, text_tokens, upstream_body
from router.wire.openai.response import (
    ToolCallPiece,
    delta_choices,
    error_of,
    read_chunk,
    read_response,
    whole_choices,
)

__all__ = [
    "ChatBody",
    "Envelope",
    "ToolCallPiece",
    "assemble",
    "completion_body",
    "debug_fields",
    "delta_choices",
    "dissolve",
    "error_body",
    "error_of",
    "read_body",
    "read_chunk",
    "read_request",
    "read_response",
    "receipt_fields",
    "text_tokens",
    "upstream_body",
    "whole_choices",
]
