"""How fast do tokens come, and how much does that differ from call to call?

Gaps between tokens are the same for all calls on a server and are seen within a second, so they give the level. The
mean gap of a whole call is what is promised; how it scatters around the level is learned from calls that have ended.
The two together give the time that nearly all calls stay under, without waiting for calls to end.
"""

from __future__ import annotations

import math

from router.stats.ewma import Ewma

_SHORT_HALF_LIFE_S = 3.0
_LONG_HALF_LIFE_S = 10.0
_SPREAD_HALF_LIFE_S = 60.0
_SPREAD, _SPREAD_WEIGHT = 0.12, 20.0
_LEAST_SPREAD, _MOST_SPREAD = 0.03, 0.4
_P95 = 1.645


class Pace:
    """Seconds a token, over a short and a long window, since the last `restart`."""

    __slots__ = ("_spread", "long", "seen", "short", "since")

    def __init__(self) -> None:
        self._spread = Ewma(_SPREAD_HALF_LIFE_S, mean=0.0, variance=_SPREAD**2, weight=_SPREAD_WEIGHT)
        self.restart(-math.inf)

    def restart(self, now: float) -> None:
        """What was seen before `now` says nothing of what is now; how calls differ stays known."""
        self.since = now
        self.seen = 0
        self.short: Ewma | None = None
        self.long: Ewma | None = None

    def observe_gap(self, gap_s: float, *, now: float) -> None:
        """Some tokens of one call, `gap_s` apart in the mean."""
        self.seen += 1
        if self.short is None or self.long is None:
            self.short = Ewma(_SHORT_HALF_LIFE_S, mean=gap_s)
            self.long = Ewma(_LONG_HALF_LIFE_S, mean=gap_s)
        self.short.update(gap_s, now=now)
        self.long.update(gap_s, now=now)

    def observe_call(self, tpot_s: float, first_token: float, *, now: float) -> None:
        """The mean gap of a whole call; one that began before the last restart belongs to another level."""
        if self.long is None or first_token < self.since or tpot_s <= 0.0:
            return
        self._spread.update(math.log(tpot_s / self.long.mean), now=now)

    def upper(self) -> float:
        """The mean gap of 95 of 100 calls is at most this many times the level."""
        spread = min(max(math.sqrt(self._spread.variance), _LEAST_SPREAD), _MOST_SPREAD)
        return math.exp(_P95 * spread)
