"""What the sender gets: completion and error bodies, and the fields of a receipt."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from router.domain.errors import RouterError
from router.domain.outcome import Receipt, Reply, Usage

_TYPES = {"insufficient_quota": "insufficient_quota"}
"""Codes that OpenAI gives a type of their own: its SDKs tell them by it."""
SCHEMA_VERSION = "1"
"""Of the receipt fields: goes up when one changes its meaning."""


class _PromptDetails(Struct, frozen=True):
    cached_tokens: int


class _Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails
    cost_usd: float | UnsetType = UNSET
    cost_source: str | UnsetType = UNSET


class _Completion(Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: Raw
    usage: _Usage
    object: Literal["chat.completion"] = "chat.completion"
    router: Raw | UnsetType = UNSET


class _Error(Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


_encode = msgspec.json.Encoder().encode


def completion_id(decision_id: str) -> str:
    """The id of the answer that a decision led to."""
    return f"chatcmpl-{decision_id}"


def _usage(usage: Usage) -> _Usage:
    return _Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=_PromptDetails(usage.cached_tokens),
    )


def usage_body(usage: Usage) -> bytes:
    """The JSON of `usage`."""
    return _encode(_usage(usage))


def paid_usage_body(reply: Reply) -> bytes:
    """The same with what it cost: the headers of a stream are sent before that is known."""
    receipt = reply.receipt
    paid = replace(_usage(reply.usage), cost_usd=receipt.cost_usd, cost_source=receipt.cost_source or UNSET)
    return _encode(paid)


def completion_body(reply: Reply) -> bytes:
    """The chat.completion JSON of a finished answer."""
    receipt = reply.receipt
    return _encode(
        _Completion(
            id=completion_id(receipt.decision_id),
            created=reply.created,
            model=receipt.model,
            choices=Raw(reply.choices),
            usage=_usage(reply.usage),
            router=Raw(reply.report) if reply.report else UNSET,
        )
    )


def error_fields(error: RouterError) -> bytes:
    """The JSON of `error`; `code` is the router's own stable one."""
    return _encode(_Error(error.message, _TYPES.get(error.code, error.openai_type), error.param, error.code))


def error_body(error: RouterError) -> bytes:
    """OpenAI's error body."""
    return _encode({"error": Raw(error_fields(error))})


def receipt_fields(receipt: Receipt, *, is_opening: bool = False) -> tuple[tuple[str, str], ...]:
    """Names and values that go with every reply; HTTP prefixes `x-router-`, MQTT `router-`. `cache` only where the
    answer was made for an earlier request; what it costs is not known yet at the opening of a stream."""
    cost = (("cost-usd", f"{receipt.cost_usd:.9f}"), ("cost-source", receipt.cost_source))
    return (
        ("decision-id", receipt.decision_id),
        ("deployment", receipt.deployment),
        ("model", receipt.model),
        *(() if is_opening else cost if receipt.cost_source else cost[:1]),
        ("attempts", str(receipt.attempts)),
        ("policy", receipt.policy),
        ("overhead-ms", f"{receipt.overhead_s * 1e3:.3f}"),
        *((("cache", receipt.cache),) if receipt.cache else ()),
    )


def debug_fields(receipt: Receipt) -> tuple[tuple[str, str], ...]:
    """More, for who asks; a phase that was not reached is left out."""
    fields = [
        ("schema-version", SCHEMA_VERSION),
        ("class", receipt.request_class),
        ("queue-ms", f"{receipt.queue_s * 1e3:.3f}"),
    ]
    if receipt.complexity is not None:
        fields.append(("complexity", f"{receipt.complexity:.4f}"))
    if receipt.ttft_s is not None:
        fields.append(("ttft-ms", f"{receipt.ttft_s * 1e3:.3f}"))
    return tuple(fields)
