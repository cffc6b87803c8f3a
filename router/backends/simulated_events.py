"""What comes to a simulated server from outside? Disturbances, the load of others, the quota it is held to.

Nothing here is announced to the controller. Times are whole nanoseconds from the start of the fleet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from random import Random

from msgspec import Struct

NS_PER_S = 1_000_000_000
_UNITS_PER_TOKEN = 60 * NS_PER_S
"""A bucket gains `tokens_per_min` units each nanosecond, so a token is a minute's nanoseconds of them."""


class Disturbance(Struct, frozen=True):
    """One event on one server, in force over `[start_ns, end_ns)`. Overlapping slowdowns multiply."""

    start_ns: int
    end_ns: int
    slowdown: Fraction = Fraction(1)
    down: bool = False
    throttle_ratio: float = 0.0


class Disturbances:
    """The events of one server, looked up by time."""

    def __init__(self, events: Iterable[Disturbance] = ()) -> None:
        events = tuple(events)
        self._down = sorted((e.start_ns, e.end_ns) for e in events if e.down)
        self._throttle = tuple(e for e in events if e.throttle_ratio > 0)
        slow = [e for e in events if e.slowdown != 1]
        self._changes = sorted({t for e in slow for t in (e.start_ns, e.end_ns)})
        self._factors = [Fraction(1)]
        for at in self._changes:
            factor = Fraction(1)
            for event in slow:
                if event.start_ns <= at < event.end_ns:
                    factor *= event.slowdown
            self._factors.append(factor)

    def slowdown(self, ns: int) -> Fraction:
        """What the length of a step or batch that starts at `ns` is multiplied by."""
        return self._factors[bisect_right(self._changes, ns)]

    def next_change(self, ns: int) -> int | None:
        """When the slowdown changes next, strictly after `ns`."""
        at = bisect_right(self._changes, ns)
        return self._changes[at] if at < len(self._changes) else None

    def down_until(self, ns: int) -> int | None:
        """The end of the outage that holds at `ns`; `None` while the server is up."""
        ends = [end for start, end in self._down if start <= ns < end]
        return max(ends) if ends else None

    def next_outage(self, ns: int) -> int | None:
        """When the server next goes down, strictly after `ns`."""
        return next((start for start, _ in self._down if start > ns), None)

    def throttle_ratio(self, ns: int) -> float:
        """The share of calls refused at `ns`."""
        return max((e.throttle_ratio for e in self._throttle if e.start_ns <= ns < e.end_ns), default=0.0)


class PoissonArrivals:
    """The times at which others call a server: exponential gaps, seeded; on for so long, then off for so long."""

    def __init__(self, per_s: float, seed: str, *, on_s: float = 60.0, off_s: float = 0.0) -> None:
        self._per_s = per_s
        self._rng = Random(seed)
        self._on_ns, self._off_ns = round(on_s * NS_PER_S), round(off_s * NS_PER_S)
        self._busy_ns = 0
        self.next_ns: int | None = self._next() if per_s > 0 else None

    def take(self, now: int) -> list[int]:
        """The arrivals up to and at `now` that were not taken before."""
        taken = []
        while self.next_ns is not None and self.next_ns <= now:
            taken.append(self.next_ns)
            self.next_ns = self._next()
        return taken

    def _next(self) -> int:
        """A gap later in the time that is on."""
        self._busy_ns += max(1, round(self._rng.expovariate(self._per_s) * NS_PER_S))
        return self._busy_ns + self._busy_ns // self._on_ns * self._off_ns


class TokenBucket:
    """One minute of tokens, full at the start, refilled evenly; what is under way may overdraw it."""

    def __init__(self, tokens_per_min: int) -> None:
        self._gain = tokens_per_min
        self._capacity = tokens_per_min * _UNITS_PER_TOKEN
        self._level = self._capacity
        self._at_ns = 0

    def holds(self, tokens: int, ns: int) -> bool:
        """Whether so many tokens are there at `ns`; an empty bucket holds nothing, not even 0."""
        self._refill(ns)
        return self._level > 0 and self._level >= tokens * _UNITS_PER_TOKEN

    def charge(self, tokens: int, ns: int) -> None:
        """Take tokens out at `ns`."""
        self._refill(ns)
        self._level -= tokens * _UNITS_PER_TOKEN

    def _refill(self, ns: int) -> None:
        self._level = min(self._capacity, self._level + self._gain * (ns - self._at_ns))
        self._at_ns = ns


class Refusal(StrEnum):
    """Why a server would not take a call."""

    DOWN = "down"
    THROTTLED = "throttled"
    TOO_LARGE = "too_large"


class Gate:
    """Which calls a server takes: none while it is down, all but a seeded share while it throttles, and only
    what fits into its memory and its quota of (input, output) tokens a minute."""

    def __init__(
        self,
        disturbances: Disturbances,
        *,
        seed: str,
        largest: int,
        tokens_per_min: tuple[int, int] | None = None,
    ) -> None:
        self._disturbances = disturbances
        self._rng = Random(f"{seed}/throttle")
        self._largest = largest
        self._buckets = [TokenBucket(tokens) for tokens in tokens_per_min or ()]
        self.metered = bool(self._buckets)

    def refusal(self, size: int, now: int) -> Refusal | None:
        """Why a call of this size is refused at `now`; one that is taken is metered for its input."""
        if self._disturbances.down_until(now) is not None:
            return Refusal.DOWN
        ratio = self._disturbances.throttle_ratio(now)
        if ratio > 0 and self._rng.random() < ratio:
            return Refusal.THROTTLED
        if size > self._largest:
            return Refusal.TOO_LARGE
        if self.metered:
            taking, giving = self._buckets
            if not (taking.holds(size, now) and giving.holds(0, now)):
                return Refusal.THROTTLED
            taking.charge(size, now)
        return None

    def charge_output(self, tokens: int, ns: int) -> None:
        """Meter what was generated by `ns`."""
        self._buckets[1].charge(tokens, ns)
