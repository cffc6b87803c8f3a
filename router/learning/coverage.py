"""Do predictions hold what they say? How often an observation falls inside the 90 % interval of its prediction.

A prediction is a median and the spread of a log-normal around it, as they stood when the call was decided. Of a sharp
and honest one nine observations of ten are inside, one of twenty above and one of twenty below. It is scored on every
call, not on a sample: what is scored is what was decided by.

Where coverage is far too low (what is known of a call when it ends is known late, and in overload that is too late) a
factor on the spread is tracked, up by 9 parts for a miss and down by one for a hit (adaptive conformal inference, Gibbs
and Candes 2021). Where it is about right the spread is left alone: a factor that always sought 90 % cost 1.6 points of
useful answers at three times the load, for what it gives up to chance.
"""

from __future__ import annotations

import math

Z90 = 1.645
"""Standard deviations either side of the mean that hold 90 % of a normal distribution."""
LEAST, MOST = 0.80, 0.97
"""Coverage outside of these for `_LONG_S` is told: intervals that are too narrow, or too wide to say anything."""
_LEAST_AGAIN, _MOST_AGAIN = 0.83, 0.96
_MEMORY = 400.0
"""Predictions over which coverage is a mean; its sampling error is then about .01."""
_ENOUGH = 200
_LONG_S = 60.0
_REPAIRED = 0.82
_WIDER, _NARROWER, _WIDEST = math.exp(0.018), math.exp(-0.002), 2.0


class Coverage:
    """Of the predictions of one quantity of one deployment. Counts are since they were last taken."""

    __slots__ = ("_off_since", "_share", "_weight", "inside", "is_off", "over", "scored", "under", "width")

    def __init__(self) -> None:
        self.inside = self.over = self.under = 0
        self.scored = 0
        self.width = 1.0
        """Factor on the spread."""
        self.is_off = False
        """Whether it has been out of bounds for long, and is not well inside again."""
        self._share, self._weight = 0.9, 0.0
        self._off_since: float | None = None

    @property
    def ratio(self) -> float:
        """Share inside, of late."""
        return self._share

    def observe(self, log_ratio: float, mean: float, sigma: float) -> None:
        """One log of observed over predicted, where `mean` and `sigma` of it were expected."""
        off = log_ratio - mean
        is_inside = abs(off) <= Z90 * sigma
        if is_inside:
            self.inside += 1
        elif off > 0.0:
            self.over += 1
        else:
            self.under += 1
        self.scored += 1
        if is_inside:
            self.width = max(self.width * _NARROWER, 1.0)
        elif self._share < _REPAIRED and self.scored >= _ENOUGH:
            self.width = min(self.width * _WIDER, _WIDEST)
        self._weight = min(self._weight + 1.0, _MEMORY)
        self._share += (is_inside - self._share) / self._weight

    def take(self) -> tuple[int, int, int]:
        """Inside, over and under since the last time."""
        taken = self.inside, self.over, self.under
        self.inside = self.over = self.under = 0
        return taken

    def look(self, *, now: float) -> bool:
        """Whether `is_off` has just changed."""
        if self.is_off:
            if _LEAST_AGAIN <= self._share <= _MOST_AGAIN:
                self.is_off, self._off_since = False, None
                return True
            return False
        if self.scored < _ENOUGH or LEAST <= self._share <= MOST:
            self._off_since = None
            return False
        if self._off_since is None:
            self._off_since = now
        self.is_off = now - self._off_since >= _LONG_S
        return self.is_off


def log_ratio(observed_s: float, predicted_s: float) -> float | None:
    """The log of observed over predicted, where both say something."""
    if observed_s <= 0.0 or predicted_s <= 0.0:
        return None
    return math.log(observed_s / predicted_s)
