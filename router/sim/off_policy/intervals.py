"""How sure is an estimate? The wider of two intervals of 95 %.

One takes the spread over resampled blocks of time, as requests that come together meet the same load; the other the
spread over single decisions, and beside it one decision that comes out as none has yet: a hundred kept promises do not
prove that the next is kept. Both are Student's, by the number of blocks and by the effective sample size.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from msgspec import Struct
from scipy.special import stdtrit

from router.learning.off_policy import Floats, Ratio
from router.sim.beside.resample import Indexes, TimeBlocks

_TAIL = 0.975
_FEWEST = 2.0


class Estimate(Struct, frozen=True):
    """A value and its interval of 95 %."""

    value: float
    low: float
    high: float


class Intervals:
    """Of estimates over decisions made at `at_s`; a part of them is said by its indexes."""

    def __init__(self, at_s: Sequence[float], *, seed: int = 0) -> None:
        self._blocks = TimeBlocks(at_s, seed=seed)
        self.told = self._blocks.told

    def of(self, ratio: Ratio, which: Indexes, *, effective: float, most: float | None = None) -> Estimate | None:
        """Of one estimate, kept within 0 and `most`; `None` of nothing."""
        value = ratio.value
        if value is None:
            return None
        half = self._half(self._drawn(ratio, which), _influence(ratio, value), ratio.surprise * _unit(ratio), effective)
        ends = (value, value - half - ratio.below, value + half + ratio.above)
        return Estimate(*(min(max(end, 0.0), np.inf if most is None else most) for end in ends))

    def difference(self, new: Ratio, old: Ratio, which: Indexes, *, effective: float) -> Estimate | None:
        """Of what `new` has more than `old`, over the same decisions."""
        after, before = new.value, old.value
        if after is None or before is None:
            return None
        drawn = self._drawn(new, which) - self._drawn(old, which)
        influence = _influence(new, after) - _influence(old, before)
        half = self._half(drawn, influence, new.surprise * _unit(new), effective)
        value = after - before
        return Estimate(value, value - half - new.below - old.above, value + half + new.above + old.below)

    def _drawn(self, ratio: Ratio, which: Indexes) -> Floats:
        wholes = self._blocks.sums(ratio.wholes, which)
        wholes[wholes == 0.0] = np.nan
        return self._blocks.sums(ratio.parts, which) / wholes * ratio.scale

    def _half(self, drawn: Floats, influence: Floats, surprise: float, effective: float) -> float:
        """Half the interval. A resample of b blocks spreads (b - 1) / b of the variance."""
        single = sqrt(float((influence**2).sum()) + surprise**2) * _student(effective)
        known = drawn[~np.isnan(drawn)]
        count = self.told.blocks
        if len(known) < _FEWEST or count < _FEWEST:
            return single
        return max(single, float(known.std()) * sqrt(count / (count - 1.0)) * _student(count))


def _student(samples: float) -> float:
    return float(stdtrit(max(samples, _FEWEST) - 1.0, _TAIL))


def _unit(ratio: Ratio) -> float:
    return ratio.scale / float(ratio.wholes.sum())


def _influence(ratio: Ratio, value: float) -> Floats:
    """What each decision moves the estimate by (the delta method)."""
    return (ratio.parts - value / ratio.scale * ratio.wholes) * _unit(ratio) if ratio.scale else ratio.parts * 0.0
