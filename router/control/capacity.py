"""What is left of reserved tokens a minute, and what is a token of it worth?

Two token buckets per provisioned deployment: input is taken when a call starts, output is reserved at its expected
length and settled at its end. Buckets are full at the start and hold one minute.

**Bid price.** The price of a token of a resource follows the rule of a dual variable, price <- [price + eta (use -
capacity)]+. The drained part of its bucket obeys that very recursion: use drains it, capacity refills it, and it never
falls under 0. So the bucket is the memory of the price, and nothing else has to be integrated or can wind up:
`price = p * d / (1 - d)`, with d the drained share and p what the token costs on demand. It is 0 while all fits, what
on-demand costs at half a bucket, and grows without bound as the bucket empties, so that what is left is kept for those
who would lose most elsewhere (cf. Talluri and van Ryzin, "An analysis of bid-price controls for network revenue
management", Management Science 44, 1998). A burst that drained it keeps the price up until the minute has refilled it:
load comes back slower than it left.

**Unknown size.** Where nobody states the size of the buckets they begin without bottom. A throttle says that one of
them was empty; between two throttles what was used is what came in, so use over time is the size. A resource that was
far from its size had no part in it. Without throttles the size is probed upwards by a twentieth for each minute of full
use: what is stored in the real bucket hides a size that is too large for some minutes, so faster would overshoot.
"""

from __future__ import annotations

import math

from msgspec import Struct

from router.domain.deployment import Price, TokenQuota

_DEAREST = 20.0
"""Times the on-demand price that a token of reserved capacity is never worth more than."""
_MINUTE_S = 60.0
_LEAST_APART_S = 15.0
"""Throttles nearer to each other than this say too little of what came in between them."""
_HAD_A_PART = 0.4
"""Share of its size of which a resource must have been used to be what was throttled: the first guess may be twice the
size, and everything above that is a hiccup of the backend."""
_MOST_CUT = 0.7
_EXERCISED = 0.7
_LEAST_TOKENS = 1000.0
_PROBE = 1.05


class Bucket:
    """Tokens that refill at a constant rate up to one minute's worth; `math.inf` a minute is one without bottom."""

    __slots__ = ("capacity", "level", "updated")

    def __init__(self, tokens_per_min: float) -> None:
        self.capacity = tokens_per_min
        self.level = tokens_per_min
        self.updated: float | None = None

    def refill(self, now: float) -> float:
        """The level as of `now`."""
        if self.updated is not None and now > self.updated:
            self.level = min(self.capacity, self.level + (now - self.updated) * self.capacity / _MINUTE_S)
        self.updated = now
        return self.level

    def drained_ratio(self, now: float) -> float:
        """Share of a minute that is used up and not yet refilled, in [0, 1]."""
        if math.isinf(self.capacity):
            return 0.0
        return min(max(1.0 - self.refill(now) / self.capacity, 0.0), 1.0)

    def resize(self, tokens_per_min: float) -> None:
        """It holds, and gains, so many a minute from now on; none come to what is in it."""
        self.capacity = tokens_per_min
        self.level = min(self.level, tokens_per_min)


class Resized(Struct, frozen=True):
    """A size that was learned moved. `what` is the resource, as a limit is called; tokens a minute."""

    what: str
    old: float
    new: float
    reason: str


class Quota:
    """Both buckets of one deployment. `quota` is their size; `None` where it is to be learned."""

    def __init__(self, quota: TokenQuota | None) -> None:
        self.learns = quota is None
        self._is_stated = quota is not None
        self.input = Bucket(math.inf if quota is None else quota.input_tokens_per_min)
        self.output = Bucket(math.inf if quota is None else quota.output_tokens_per_min)
        self.on_demand = Price(0.0, 0.0)
        """What the same tokens cost where load spills to."""
        self.used_input = self.used_output = 0.0
        """Tokens used since the beginning: output as it is expected, and as it was once its length is known."""
        self._mark: tuple[float, float, float] | None = None
        self._before: tuple[float, float, float] | None = None
        """When the running minute began, and the one before it, with what was used until then."""
        self._throttled: tuple[float, float, float] | None = None

    def has_room(self, input_tokens: float, output_tokens: float, *, now: float) -> bool:
        """Whether a call of this size can start without being throttled, as far as we know. A size that was learned may
        be too small, and would stay so if what is larger were never tried: it may start on a full bucket."""
        if not self._is_stated:
            input_tokens = min(input_tokens, self.input.capacity)
            output_tokens = min(output_tokens, self.output.capacity)
        return self.input.refill(now) >= input_tokens and self.output.refill(now) >= output_tokens

    def reserve(self, input_tokens: float, output_tokens: float, *, now: float) -> None:
        """Take what a call will use."""
        self.input.refill(now)
        self.output.refill(now)
        self.input.level -= input_tokens
        self.output.level -= output_tokens
        self.used_input += input_tokens
        self.used_output += output_tokens
        if self._mark is None:
            self._mark = (now, 0.0, 0.0)

    def settle(self, reserved_output: float, used_output: float, *, refused_input: float = 0.0) -> None:
        """Give back (or take) the difference once the length is known; `refused_input` of a call that was never taken
        in."""
        self.output.level = min(self.output.capacity, self.output.level + reserved_output - used_output)
        self.input.level = min(self.input.capacity, self.input.level + refused_input)
        self.used_input -= refused_input
        self.used_output += used_output - reserved_output

    def fits(self, input_tokens: float, output_tokens: float) -> bool:
        """Whether full buckets would ever hold a call of this size, where it is stated how much they hold."""
        return not self._is_stated or (input_tokens <= self.input.capacity and output_tokens <= self.output.capacity)

    def bid_usd(self, input_tokens: float, output_tokens: float, *, now: float) -> float:
        """What these tokens are worth to those who come next."""
        price = self.on_demand
        usd = 0.0
        if (drained := self.input.drained_ratio(now)) > 0.0:
            usd += _times(drained) * price.input_usd_per_mtok * input_tokens
        if (drained := self.output.drained_ratio(now)) > 0.0:
            usd += _times(drained) * price.output_usd_per_mtok * output_tokens
        return usd * 1e-6

    def prices(self, *, now: float) -> tuple[float, float]:
        """The bid price of input and of output, in USD per million tokens."""
        price = self.on_demand
        return (
            _times(self.input.drained_ratio(now)) * price.input_usd_per_mtok,
            _times(self.output.drained_ratio(now)) * price.output_usd_per_mtok,
        )

    def on_throttled(self, *, now: float) -> list[Resized]:
        """The backend says it is empty: believe it, and learn its size where nobody stated it."""
        moved = self._shrink(now) if self.learns else []
        for bucket in (self.input, self.output):
            if not math.isinf(bucket.capacity):
                bucket.level = min(bucket.refill(now), 0.0)
        return moved

    def _shrink(self, now: float) -> list[Resized]:
        """Between two throttles no more was used than came in, so that the size is at least that. What was used in the
        minute before the first one may be up to twice the size."""
        last, self._throttled = self._throttled, (now, self.used_input, self.used_output)
        if last is not None and now - last[0] < _LEAST_APART_S:
            self._throttled = last
            return []
        at, used_input, used_output = last or self._before or self._mark or self._throttled
        self._mark = self._throttled
        minutes = max(now - at, _MINUTE_S if last is None else 0.0) / _MINUTE_S
        moved = []
        for what, bucket, used in self._used_since(used_input, used_output):
            seen, old = used / minutes, bucket.capacity
            if math.isinf(old) or _HAD_A_PART * old <= seen < old:
                least = _LEAST_TOKENS if math.isinf(old) else _MOST_CUT * old
                moved += _resized(what, bucket, max(seen, least), "throttled")
        return moved

    def probe(self, *, now: float) -> list[Resized]:
        """Once a minute: a learned size that was in full use and met no throttle may be larger than it is thought."""
        if not self.learns or self._mark is None or now - self._mark[0] < _MINUTE_S:
            return []
        at, used_input, used_output = self._before = self._mark
        self._mark = (now, self.used_input, self.used_output)
        moved = []
        for what, bucket, used in self._used_since(used_input, used_output):
            if not math.isinf(bucket.capacity) and used / (now - at) * _MINUTE_S >= _EXERCISED * bucket.capacity:
                moved += _resized(what, bucket, bucket.capacity * _PROBE, "a minute of full use without a throttle")
        return moved

    @property
    def is_learned(self) -> bool:
        """Whether there is a size that was learned."""
        return self.learns and not math.isinf(self.input.capacity)

    def state(self) -> list[float]:
        """Tokens a minute in and out, as learned."""
        return [self.input.capacity, self.output.capacity]

    def restore(self, input_tokens_per_min: float, output_tokens_per_min: float) -> None:
        """Take up sizes that were learned; raises `ValueError` where they are none."""
        if not all(0.0 < size < math.inf for size in (input_tokens_per_min, output_tokens_per_min)):
            raise ValueError("a size of reserved capacity is more than 0 and finite")
        self.input.resize(input_tokens_per_min)
        self.output.resize(output_tokens_per_min)

    def _used_since(self, used_input: float, used_output: float) -> tuple[tuple[str, Bucket, float], ...]:
        return (
            ("input_tokens_per_min", self.input, self.used_input - used_input),
            ("output_tokens_per_min", self.output, self.used_output - used_output),
        )

    def saturation_ratio(self, *, now: float) -> float:
        """Used share of the tighter bucket; 1 is empty."""
        return max(self.input.drained_ratio(now), self.output.drained_ratio(now))


def _times(drained: float) -> float:
    """Times the on-demand price that a token is worth at this drained share."""
    return drained / (1.0 - drained) if drained * (1.0 + _DEAREST) < _DEAREST else _DEAREST


def _resized(what: str, bucket: Bucket, size: float, reason: str) -> list[Resized]:
    old = bucket.capacity
    if size == old:
        return []
    bucket.resize(size)
    return [Resized(what, old, size, reason)]
