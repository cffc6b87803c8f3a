"""What may an account still ask of a model this minute?

On-demand capacity of Bedrock is bounded by two token buckets for each account, region and model: calls, and tokens. A
call takes its input (cached or not) and its `max_tokens` when it starts; when it ends it has used its input without
what was read from a cache, and `output_burndown` times its output, and gets back the rest (AWS, "How tokens are counted
in Amazon Bedrock", quotas-token-burndown). An answer without a bound reserves the longest that the model can give. So a
realistic `max_tokens` is what decides how many calls fit. Room costs nothing: there is no bid price.

**Unknown size.** A bucket that nobody stated begins without bottom. A bucket of Q a minute, full at first, is empty as
soon as for some stretch of w minutes before now the use has reached `Q (1 + w)`; so a throttle says that Q is about the
largest of `use(w) / (1 + w)`. Calls of the same burst that are refused too were not taken in and lower that figure
again. One burst never takes more than `_MOST_CUT` from a size that was learned before: others may have used up the
quota. After a minute of full use without a throttle the size is probed upwards, by a twentieth, then by twice that.
"""

from __future__ import annotations

import math
from collections import deque

from router.control.capacity import Bucket, Resized
from router.domain.aws.terms import CallQuota
from router.domain.outcome import Outcome

REQUESTS, TOKENS = "account_requests_per_min", "account_tokens_per_min"
_MINUTE_S = 60.0
_KEPT_S = 180
"""Seconds of use that are remembered: a stretch of three minutes says within a quarter what a longer one would."""
_MOST_CUT = 0.7
_HAD_A_PART = 0.4
"""Share of its size of which tokens must have been used to be what was short, where nothing is said of that."""
_EXERCISED = 0.7
_PROBE, _PROBE_MAX = 0.05, 0.4
_LEAST = {REQUESTS: 10.0, TOKENS: 10_000.0}
"""What a first throttle teaches at least: it may have been others who used the quota up."""
_STAY_AWAY_MAX_S = 60.0


class Reservation:
    """What one call has taken, when, and between which two throttles."""

    __slots__ = ("at", "epoch", "tokens")

    def __init__(self, tokens: float, at: float, epoch: int) -> None:
        self.tokens, self.at, self.epoch = tokens, at, epoch


class _Resource:
    """One bucket, and its use by the second where its size is learned."""

    __slots__ = ("bucket", "cells", "floor", "learns", "since", "what")

    def __init__(self, what: str, per_min: float | None) -> None:
        self.what, self.learns = what, per_min is None
        self.bucket = Bucket(math.inf if per_min is None else per_min)
        self.cells: deque[list[float]] = deque()
        self.floor = _LEAST[what]
        self.since = 0.0
        """Used since the last probe."""

    def take(self, amount: float, at: float) -> None:
        """Use (or give back, below 0) as of `at`."""
        self.since += amount
        if not self.learns:
            return
        second, cells = math.floor(at), self.cells
        for cell in reversed(cells):
            if cell[0] == second:
                cell[1] += amount
                return
            if cell[0] < second:
                break
        else:
            if cells:
                return
        cells.append([second, amount])
        while cells[0][0] < second - _KEPT_S:
            cells.popleft()

    def seen(self, at: float) -> float:
        """The largest size that is used up by what was used until `at`."""
        used, most, until = 0.0, 0.0, math.floor(at)
        for second, amount in reversed(self.cells):
            if second <= until:
                used += amount
                most = max(most, used / (1.0 + (until - second) / _MINUTE_S))
        return most

    def resize(self, size: float, reason: str) -> list[Resized]:
        """It holds so much from now on."""
        old = self.bucket.capacity
        if not self.learns or size == old:
            return []
        self.bucket.resize(size)
        return [Resized(self.what, old, size, reason)]


class Allowance:
    """Both buckets of one account, region and model."""

    def __init__(self, terms: CallQuota) -> None:
        self.terms = terms
        self._requests = _Resource(REQUESTS, terms.requests_per_min)
        self._tokens = _Resource(TOKENS, terms.tokens_per_min)
        self.requests, self.tokens = self._requests.bucket, self._tokens.bucket
        self._both = (self._requests, self._tokens)
        self._named = {"requests": self._requests, "tokens": self._tokens}
        self._epoch = 0
        self._emptied_at = -math.inf
        self._closed_until = self._throttled_at = -math.inf
        self._probed_at: float | None = None
        self._step = _PROBE

    @property
    def learns(self) -> bool:
        """Whether a size of it is not stated."""
        return self._requests.learns or self._tokens.learns

    def asked(self, input_tokens: float, max_tokens: int | None) -> float:
        """What a call reserves; `None` where nothing bounds its answer."""
        return input_tokens + (self.terms.max_output_tokens if max_tokens is None else max_tokens)

    def has_room(self, tokens: float, *, now: float) -> bool:
        """Whether a call that reserves so much would be taken, as far as we know. Where the size is learned, a call
        larger than all of it may start on a full bucket."""
        if now < self._closed_until or self.requests.refill(now) < 1.0:
            return False
        if self._tokens.learns:
            tokens = min(tokens, self.tokens.capacity)
        return self.tokens.refill(now) >= tokens

    def fits(self, tokens: float) -> bool:
        """Whether a full bucket would ever hold it, where it is stated how much it holds."""
        return self._tokens.learns or tokens <= self.tokens.capacity

    def reserve(self, tokens: float, *, now: float) -> Reservation:
        """A call starts."""
        for resource, amount in ((self._requests, 1.0), (self._tokens, tokens)):
            resource.bucket.refill(now)
            resource.bucket.level -= amount
            resource.take(amount, now)
        if self._probed_at is None:
            self._probed_at = now
        return Reservation(tokens, now, self._epoch)

    def settle(self, held: Reservation, outcome: Outcome, *, now: float) -> None:
        """It ended: what it did not use comes back."""
        fresh = max(outcome.input_tokens - outcome.cached_tokens, 0)
        used = fresh + self.terms.output_burndown * outcome.output_tokens
        self._give_back(self._tokens, held.tokens - used, now)
        self._tokens.take(used - held.tokens, now)

    def refund(self, held: Reservation, *, now: float) -> None:
        """The call was never taken in. What a throttle has shown to be empty it does not fill."""
        for resource, amount in ((self._requests, 1.0), (self._tokens, held.tokens)):
            if held.epoch == self._epoch:
                self._give_back(resource, amount, now)
            resource.take(-amount, held.at)

    @staticmethod
    def _give_back(resource: _Resource, amount: float, now: float) -> None:
        bucket = resource.bucket
        bucket.level = min(bucket.capacity, bucket.refill(now) + amount)

    def on_throttled(
        self, held: Reservation, retry_after_s: float | None, short_of: str | None, *, now: float
    ) -> list[Resized]:
        """The call was throttled for want of requests or tokens: believe that the bucket is empty, and learn its size
        where nobody stated it. Where nothing is said of which, it is tokens, unless far fewer were used than are
        known to be taken."""
        is_news = held.at > self._emptied_at
        if retry_after_s is not None:
            self._closed_until = max(self._closed_until, now + min(retry_after_s, _STAY_AWAY_MAX_S))
        self.refund(held, now=now)
        resource = self._blamed(held.at) if short_of is None else self._named[short_of]
        is_telling = self._is_telling(held.at, now)
        moved = self._learn(resource, held.at, is_news=is_news) if resource.learns and is_telling else []
        if is_news:
            self._epoch += 1
            self._emptied_at = self._probed_at = now
            self._step, resource.since = _PROBE, 0.0
            if not math.isinf(resource.bucket.capacity):
                resource.bucket.level = min(resource.bucket.refill(now), 0.0)
        return moved

    def _is_telling(self, at: float, now: float) -> bool:
        """One throttle beside few calls may be the doing of others in the account; two within a minute are not."""
        before, self._throttled_at = self._throttled_at, now
        return self._requests.seen(at) >= _LEAST[REQUESTS] or now - before < _MINUTE_S

    def _blamed(self, at: float) -> _Resource:
        size = self.tokens.capacity
        is_unused = not math.isinf(size) and self._tokens.learns and self._tokens.seen(at) < _HAD_A_PART * size
        return self._requests if is_unused else self._tokens

    @staticmethod
    def _learn(resource: _Resource, at: float, *, is_news: bool) -> list[Resized]:
        old, seen = resource.bucket.capacity, resource.seen(at)
        if is_news:
            resource.floor = _LEAST[resource.what] if math.isinf(old) else _MOST_CUT * old
        return resource.resize(min(max(seen, resource.floor), old), "throttled")

    def probe(self, *, now: float) -> list[Resized]:
        """Once a minute: a learned size that was in full use and met no throttle may be larger than it is thought."""
        if self._probed_at is None or now - self._probed_at < _MINUTE_S:
            return []
        minutes, self._probed_at = (now - self._probed_at) / _MINUTE_S, now
        moved: list[Resized] = []
        for resource in self._both:
            size, used, resource.since = resource.bucket.capacity, resource.since / minutes, 0.0
            if not math.isinf(size) and used >= _EXERCISED * size:
                moved += resource.resize(size * (1.0 + self._step), "a minute of full use without a throttle")
        if moved:
            self._step = min(2.0 * self._step, _PROBE_MAX)
        return moved

    @property
    def is_learned(self) -> bool:
        """Whether there is a size that was learned."""
        return any(r.learns and not math.isinf(r.bucket.capacity) for r in self._both)

    def state(self) -> list[float]:
        """Calls and tokens a minute, 0 where unknown."""
        return [0.0 if math.isinf(r.bucket.capacity) else r.bucket.capacity for r in self._both]

    def restore(self, requests_per_min: float, tokens_per_min: float) -> None:
        """Take up sizes that were learned; raises `ValueError` where they are none."""
        sizes = (requests_per_min, tokens_per_min)
        if not all(0.0 <= size < math.inf for size in sizes):
            raise ValueError("a size of an account's quota is finite and not under 0")
        for resource, size in zip(self._both, sizes, strict=True):
            if size and resource.learns:
                resource.bucket.resize(size)

    def saturation_ratio(self, *, now: float) -> float:
        """Used share of the tighter bucket; 1 is empty."""
        return max(self.requests.drained_ratio(now), self.tokens.drained_ratio(now))
