"""How fast does a line move, and will it have moved far enough in time?

What a lane was granted within a memory of ten seconds is counted as a Poisson process. One is said to come too late
where a rate one standard deviation above what was seen does not bring its turn in time. Who is told so could not have
been served besides those before it: let in behind them none was in time (`tests/sim/test_tenants.py`), and as many are
in time in all as where nobody is told anything. Those before it who give up are no help to count on: that a line moves
because its head is always just too late is what this is to prevent.
"""

from __future__ import annotations

import math

_MEMORY_S = 10.0
_SURE = 1.0
"""Standard deviations."""
_LEAST_SEEN = 8.0
"""Grants before anything is said."""
_RETRY_LEAST_S, _RETRY_MOST_S = 0.1, 60.0


class Drain:
    """What one lane was granted since somebody waits there."""

    __slots__ = ("_began", "_count", "_last")

    def __init__(self, now: float) -> None:
        self._began = self._last = now
        self._count = 0.0

    def _decay(self, now: float) -> None:
        self._count *= math.exp(-(now - self._last) / _MEMORY_S)
        self._last = now

    def on_granted(self, now: float) -> None:
        """One had its turn."""
        self._decay(now)
        self._count += 1.0

    def _seen_s(self, now: float) -> float:
        return _MEMORY_S * -math.expm1(-(now - self._began) / _MEMORY_S)

    def rate(self, now: float) -> float | None:
        """Grants a second; `None` while too little was seen."""
        self._decay(now)
        seen_s = self._seen_s(now)
        return self._count / seen_s if seen_s > 0.0 and self._count >= _LEAST_SEEN else None

    def reaches(self, place: float, within_s: float, now: float) -> bool:
        """Whether one with `place` others ahead of it may have its turn within this time. True while nothing is
        known."""
        if self.rate(now) is None or place < 1.0:
            return True
        high = self._count + _SURE * math.sqrt(self._count)
        return place < high / self._seen_s(now) * max(within_s, 0.0) + 1.0

    def retry_after_s(self, place: float, within_s: float, now: float) -> float:
        """Seconds after which one that comes then would be in time, as the line moves now and if nobody else comes."""
        rate = self.rate(now)
        if rate is None:
            return 1.0
        return min(max(place / rate - max(within_s, 0.0), _RETRY_LEAST_S), _RETRY_MOST_S)
