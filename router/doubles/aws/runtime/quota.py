"""Quotas per minute: reserved at the start of a call, settled at its end.

A call starts by taking its input (cached or not) and its `maxTokens` from the minute's tokens, and ends by giving back
all but input, cache writes and `output_burndown` x output: tokens read from the cache are free of it. Source: AWS,
"How tokens are counted in Amazon Bedrock" (quotas-token-burndown), with its example of 2,000,000 tokens a minute and
500 of input: about 31 calls at once with `maxTokens` left at 64,000, about 1,333 with 1,000. Buckets fill evenly over
the minute. Cross-region calls have a quota of their own; tiers share one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from router.doubles.aws.models import Quota

_MINUTE_S = 60.0


class Holder(Struct, frozen=True):
    """Whose quota it is."""

    account: str
    region: str
    model: str
    kind: str


class Reservation(Struct, frozen=True):
    """Tokens taken from a quota at the start of a call."""

    holder: Holder
    quota: Quota
    tokens: float


@dataclass(slots=True)
class _Bucket:
    level: float
    filled: float

    def fill(self, per_min: float, now: float) -> None:
        self.level = min(per_min, self.level + per_min * (now - self.filled) / _MINUTE_S)
        self.filled = now


@dataclass(slots=True)
class Quotas:
    """The buckets of every quota that was ever called on."""

    _requests: dict[Holder, _Bucket] = field(default_factory=dict)
    _tokens: dict[Holder, _Bucket] = field(default_factory=dict)

    def reserve(self, holder: Holder, quota: Quota, tokens: float, *, now: float) -> Reservation | str:
        """Take one request and so many tokens; or say which quota is used up, and take nothing."""
        requests = _level(self._requests, holder, quota.requests_per_min, now)
        bucket = _level(self._tokens, holder, quota.tokens_per_min, now)
        if requests is not None and requests.level < 1.0:
            return "Too many requests, please wait before trying again."
        if bucket is not None and bucket.level < tokens:
            return "Too many tokens, please wait before trying again."
        if requests is not None:
            requests.level -= 1.0
        if bucket is not None:
            bucket.level -= tokens
        return Reservation(holder, quota, tokens)

    def settle(self, held: Reservation, tokens: float, *, now: float) -> None:
        """Give back what the call did not use of its reservation; `tokens` is what it used."""
        bucket = _level(self._tokens, held.holder, held.quota.tokens_per_min, now)
        if bucket is not None:
            bucket.level += held.tokens - tokens


def _level(buckets: dict[Holder, _Bucket], holder: Holder, per_min: float | None, now: float) -> _Bucket | None:
    if per_min is None:
        return None
    bucket = buckets.setdefault(holder, _Bucket(per_min, now))
    bucket.fill(per_min, now)
    return bucket
