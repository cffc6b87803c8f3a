"""What feedback gained, over the orders it was learned in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from router.sim.online.references import Array, Interval

_RESAMPLES: Final = 2000
_ENDS: Final = (0.025, 0.975)


class Gains(Struct, frozen=True):
    """APGR before, after, and with both outcomes of the same rows; what chosen-model and full feedback added; and the
    first as a share of the second, `None` where full feedback added nothing that can be told from 0. 95 % by bootstrap
    over seeds."""

    seeds: int
    before: Interval
    after: Interval
    full: Interval
    gained: Interval
    full_gained: Interval
    ratio: Interval | None


def gains(apgr_by_seed: Sequence[tuple[float | None, float | None, float | None]]) -> Gains | None:
    """From APGR before, after and with full feedback, by seed; `None` where no seed has all three."""
    told = [row for row in apgr_by_seed if None not in row]
    if not told:
        return None
    figures = np.array(told, dtype=np.float64)
    rng, count = np.random.default_rng(0), len(figures)
    means = np.array([figures[rng.integers(0, count, count)].mean(axis=0) for _ in range(_RESAMPLES)])
    whole = figures.mean(axis=0)
    before, after, full = (_span(float(whole[at]), means[:, at]) for at in range(3))
    gained, full_gained = (_span(float(whole[at] - whole[0]), means[:, at] - means[:, 0]) for at in (1, 2))
    ratio = None
    if full_gained.low > 0.0:
        sound = means[means[:, 2] > means[:, 0]]
        ratio = _span(gained.mean / full_gained.mean, (sound[:, 1] - sound[:, 0]) / (sound[:, 2] - sound[:, 0]))
    return Gains(count, before, after, full, gained, full_gained, ratio)


def _span(mean: float, drawn: Array) -> Interval:
    low, high = np.quantile(drawn, _ENDS).tolist()
    return Interval(mean, low, high)
