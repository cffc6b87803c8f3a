"""What a limit goes by that knows nothing of the server: whether tokens, and first tokens, come in time."""

from __future__ import annotations

from router.control.limits.pace import Pace
from router.stats.ewma import Ewma

_FIRST_HALF_LIFE_S = 10.0
_FIRST_IN_TIME = 0.75
"""Share of first tokens in time from which on TTFT is no reason to lower a limit. Long prompts are late whatever the
limit is: in measured overload at the best fixed limit .87 to .95 of first tokens were in time, past it .7 and less."""
_ENOUGH_GAPS, _ENOUGH_FIRSTS = 20, 10
_FRESH_S = 5.0
_LONG_LOOK_S = 5.0
_FUTILE, _FUTILE_S = 2, 60.0
_BETTER = 0.03


class Observed:
    """Observations since the last change that mattered. `started` tells a call that was sent under an older limit."""

    __slots__ = ("_first", "_firsts", "_futile", "_futile_until", "_judged", "_since", "pace")

    def __init__(self) -> None:
        self.pace = Pace()
        self._futile, self._futile_until = 0, 0.0
        self._judged: float | None = None
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """A change shows in what is in flight: look anew."""
        self.pace.restart(now)
        self._first: Ewma | None = None
        self._firsts = 0
        self._since = now

    def on_first_token(self, started: float, *, inside: bool, now: float) -> None:
        """A first token came in time, or not."""
        if started < self._since:
            return
        self._firsts += 1
        if self._first is None:
            self._first = Ewma(_FIRST_HALF_LIFE_S, mean=float(inside))
        else:
            self._first.update(float(inside), now=now)

    def is_fresh(self, now: float) -> bool:
        """Whether enough was seen, and lately."""
        short = self.pace.short
        return self.pace.seen >= _ENOUGH_GAPS and short is not None and now - (short.last or 0.0) <= _FRESH_S

    def excess(self, tpot_s: float, *, now: float) -> float:
        """The pace of nearly all calls as a multiple of what it may be, where that is known to be too much: at once
        where the mean call is too slow already, else once it was looked at for long enough to tell it from chance."""
        short, long = self.pace.short, self.pace.long
        if short is None or long is None:
            return 0.0
        upper = self.pace.upper() / tpot_s
        if short.mean > tpot_s:
            return short.mean * upper
        return long.mean * upper if now - self.pace.since >= _LONG_LOOK_S else 0.0

    def nearness(self, tpot_s: float) -> float:
        """The pace of nearly all calls as a multiple of what it may be, by the slower of both windows: what has to be
        under 1 for more to be tried."""
        short, long = self.pace.short, self.pace.long
        if short is None or long is None:
            return 0.0
        return max(short.mean, long.mean) * self.pace.upper() / tpot_s

    def is_late(self, now: float) -> bool:
        """Whether so many first tokens come late that fewer calls should be tried."""
        first = self._first
        if first is None or self._firsts < _ENOUGH_FIRSTS or now < self._futile_until:
            return False
        return first.mean < _FIRST_IN_TIME

    def on_lowered_for_firsts(self, now: float) -> None:
        """The limit was lowered because first tokens were late. Where that has not helped twice, it is not the number
        of calls that makes them late, and for a while they are left out of account."""
        share = 0.0 if self._first is None else self._first.mean
        helped = self._judged is None or share > self._judged + _BETTER
        self._judged, self._futile = share, 0 if helped else self._futile + 1
        if self._futile >= _FUTILE:
            self._judged, self._futile, self._futile_until = None, 0, now + _FUTILE_S
