"""One receipt for all: sums of what was paid, and the longest of what went on at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from router.domain.outcome import Receipt, Reply, Usage
from router.domain.request import Request


def summed(request: Request, parts: Sequence[Receipt], merge: Receipt | None, *, merge_after_s: float = 0.0) -> Receipt:
    """The receipt of an answer made of at least one part. `merge_after_s`: from the request's arrival to the merge's.

    Where there is a merge its decision stands for the whole. Without one no single decision does.
    """
    paid = [*parts, merge] if merge is not None else list(parts)
    longest = [max(r.overhead_s for r in parts), max(r.queue_s for r in parts)]
    if merge is not None:
        longest = [longest[0] + merge.overhead_s, longest[1] + merge.queue_s]
    first = _first_token_s(parts) if merge is None else _later(merge.ttft_s, merge_after_s)
    one = merge or replace(
        parts[0],
        decision_id=f"fanout-{request.id}",
        deployment=_names(r.deployment for r in parts),
        model=_names(r.model for r in parts),
        complexity=max((r.complexity for r in parts if r.complexity is not None), default=None),
    )
    return replace(
        one,
        attempts=sum(r.attempts for r in paid) + request.attempts_before,
        cost_usd=sum(r.cost_usd for r in paid),
        cost_source=_names(r.cost_source for r in paid),
        overhead_s=longest[0],
        queue_s=longest[1],
        ttft_s=first,
        cache="",
    )


def used(replies: Iterable[Reply]) -> Usage:
    """All tokens."""
    usages = [reply.usage for reply in replies]
    return Usage(
        sum(u.input_tokens for u in usages),
        sum(u.output_tokens for u in usages),
        sum(u.cached_tokens for u in usages),
        sum(u.cache_written_tokens for u in usages),
    )


def _first_token_s(parts: Sequence[Receipt]) -> float | None:
    return min((r.ttft_s for r in parts if r.ttft_s is not None), default=None)


def _later(ttft_s: float | None, after_s: float) -> float | None:
    return None if ttft_s is None else after_s + ttft_s


def _names(names: Iterable[str]) -> str:
    """Each once, in order."""
    return ",".join(dict.fromkeys(name for name in names if name))
