"""A table of what each number of units would have taken over, by fold and hour: every question is a sum over it."""

from __future__ import annotations

from math import ceil

import numpy as np
from msgspec import Struct

from router.control.newsvendor import Floats, taken_usd
from router.sim.capacity.days import HOURS, Days, Integers
from router.sim.capacity.minutes import Minutes

_MOST_LEVELS = 1000


class Saved(Struct, frozen=True):
    """`levels`: numbers of units that may be held, from 0, `lot` apart. `taken_usd[fold, hour, level]`: on-demand money
    that so many take over; `paid_usd[fold]`: all of it, with none; `minutes[fold, hour]`: how many there were."""

    levels: Integers
    lot: int
    taken_usd: Floats
    paid_usd: Floats
    minutes: Floats

    @property
    def hours(self) -> float:
        """Length of the record."""
        return float(self.minutes.sum()) / 60.0


def saved(minutes: Minutes, days: Days, *, lot: int = 1) -> Saved:
    """Up to the units that the busiest minute needs. Where those are over a thousand lots, lots are joined."""
    lots = ceil(float(minutes.all.units.max()) / lot)
    lot *= max(1, ceil(lots / _MOST_LEVELS))
    levels = np.arange(ceil(float(minutes.all.units.max()) / lot) + 1, dtype=np.int64) * lot
    cell = days.fold * HOURS + days.hour
    cells = days.folds * HOURS
    taken = np.zeros((len(levels), cells))
    for number, demand in enumerate(minutes.growing(levels.tolist())):
        usd = taken_usd(demand, float(levels[number]))
        taken[number] = np.bincount(cell, weights=usd, minlength=cells)
    return Saved(
        levels=levels,
        lot=lot,
        taken_usd=np.ascontiguousarray(taken.reshape(len(levels), days.folds, HOURS).transpose(1, 2, 0)),
        paid_usd=np.bincount(days.fold, weights=minutes.all.usd, minlength=days.folds).astype(np.float64),
        minutes=np.bincount(cell, minlength=cells).reshape(days.folds, HOURS).astype(np.float64),
    )
