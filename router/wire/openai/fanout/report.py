"""What became of the parts, for people to read and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from router.domain.errors import RouterError
from router.domain.outcome import Reply
from router.wire.openai.reply import error_fields, usage_body
from router.wire.openai.verify import read_answer

Told = Reply | RouterError
"""What a part, or the merge, came to."""


class _Choice(Struct, frozen=True):
    message: Raw = Raw(b"null")
    finish_reason: str | None = None


class _Completed(Struct, frozen=True):
    message: Raw | UnsetType
    finish_reason: str | None
    usage: Raw
    decision_id: str
    deployment: str
    model: str
    cost_usd: float
    index: int | UnsetType = UNSET
    status: Literal["completed"] = "completed"


class _Failed(Struct, frozen=True):
    error: Raw
    index: int | UnsetType = UNSET
    status: Literal["failed"] = "failed"


class _Report(Struct, frozen=True, omit_defaults=True):
    parts: Sequence[_Completed | _Failed]
    merge: _Completed | _Failed | None = None


_choices = msgspec.json.Decoder(list[_Choice])
_encode = msgspec.json.Encoder().encode


def report(parts: Sequence[Told], merge: Told | None) -> bytes:
    """JSON of what became of each part, in order, and of the merge. The merge's message is that of the answer."""
    said = [_line(told, index) for index, told in enumerate(parts)]
    return _encode(_Report(said, None if merge is None else _line(merge)))


def _line(told: Told, index: int | UnsetType = UNSET) -> _Completed | _Failed:
    if isinstance(told, RouterError):
        return _Failed(Raw(error_fields(told)), index)
    receipt, choice, is_part = told.receipt, _Choice(), index is not UNSET
    if is_part:
        choice = next(iter(_choices.decode(told.choices)), choice)
    return _Completed(
        message=choice.message if is_part else UNSET,
        finish_reason=told.finish_reason or choice.finish_reason,
        usage=Raw(usage_body(told.usage)),
        decision_id=receipt.decision_id,
        deployment=receipt.deployment,
        model=receipt.model,
        cost_usd=receipt.cost_usd,
        index=index,
    )


def section(told: Told, index: int) -> str:
    """A part in the answer that joins all: its text, or that it failed. Empty where it has no text, as a tool call."""
    return f"[part {index} failed: {told.code}]" if isinstance(told, RouterError) else _text(told)


def joined(parts: Iterable[Told]) -> str:
    """The answer of a request without a merge: the parts in order, a blank line between."""
    return "\n\n".join([text for index, told in enumerate(parts) if (text := section(told, index))])


def for_merge(told: Told) -> str:
    """A part as the merge reads it."""
    return f"(no answer: {told.code})" if isinstance(told, RouterError) else _text(told) or "(no text)"


def _text(reply: Reply) -> str:
    answer = read_answer(reply.choices)
    return "" if answer is None or answer.text is None else answer.text
