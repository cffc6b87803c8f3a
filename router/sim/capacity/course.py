"""What the advised units would have done, minute by minute, on the whole record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.control.newsvendor import taken_usd
from router.sim.capacity.days import HOURS, WEEK, Days, Weekday
from router.sim.capacity.minutes import Minutes
from router.sim.capacity.offers import Market
from router.sim.capacity.proof import Proved, Span

_HALVINGS = 40


class Hours(Struct, frozen=True):
    """Units from hour `start` to hour `end` on `days`, `base` of them held at all hours anyway. Money is USD an hour:
    `alone_usd` with nothing reserved, `reserved_usd` and `spilled_usd` as advised."""

    days: tuple[Weekday, ...]
    start: int
    end: int
    base: int
    units: Span
    utilisation_ratio: float | None
    alone_usd: float
    reserved_usd: float
    spilled_usd: float


class Grown(Struct, frozen=True):
    """Were there `factor` times as many calls: USD an hour on demand, and under the advice."""

    factor: float
    alone_usd: float
    advised_usd: float


class Course:
    """Units held and paid for in each minute under one offer, and the demand they face."""

    def __init__(self, market: Market, proved: Proved, found: Days, minutes: Minutes) -> None:
        levels, held, offer = market.table.levels, proved.held, proved.offer
        on_top = held.on_top(len(market.kinds))[market.fold_kind[found.fold], found.hour]
        units = levels[held.base + on_top]
        self._found, self._minutes = found, minutes
        self._base = int(levels[held.base])
        self._held = units.astype(np.float64)
        self._facing = minutes.facing(units)
        self._reserved_usd = (self._base * offer.base_usd + levels[on_top] * (offer.by_hours_usd or 0.0)) / 60.0
        self._blocks = [(market.kinds[b.kind], b.start, b.end) for b in held.blocks] or [(WEEK, 0, HOURS)]

    def told(self, units: Sequence[Span]) -> tuple[Hours, ...]:
        """One row a block; one for all hours where there are none. `units` are those of each."""
        taken = taken_usd(self._facing, self._held)
        rows = []
        for (kind, start, end), span in zip(self._blocks, units, strict=True):
            at = self._inside(kind, start, end)
            hours = max(float(at.sum()) / 60.0, 1.0 / 60.0)
            alone = float(self._minutes.all.usd[at].sum()) / hours
            rows.append(
                Hours(
                    days=kind,
                    start=start,
                    end=end,
                    base=self._base,
                    units=span,
                    utilisation_ratio=self.utilisation_ratio(at),
                    alone_usd=alone,
                    reserved_usd=float(self._reserved_usd[at].sum()) / hours,
                    spilled_usd=alone - float(taken[at].sum()) / hours,
                )
            )
        return tuple(rows)

    def utilisation_ratio(self, at: NDArray[np.bool_] | None = None) -> float | None:
        """Share of the units held that is in use in these minutes, or in all; `None` where none is held."""
        used, held = np.minimum(self._facing.units, self._held), self._held
        if at is not None:
            used, held = used[at], held[at]
        return float(used.sum() / held.sum()) if held.sum() else None

    def break_even(self) -> float | None:
        """The demand, as a share of what was seen, at which the units save what they cost, by bisection; `None` where
        there are none, or where they do not pay at the demand seen."""
        reserved = float(self._reserved_usd.sum())
        if not reserved or self._taken(1.0) <= reserved:
            return None
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            low, high = (low, middle) if self._taken(middle) > reserved else (middle, high)
        return high

    def grown(self, factor: float) -> Grown:
        """Were there `factor` times as many calls."""
        hours = self._minutes.count / 60.0
        alone = float(self._minutes.all.usd.sum()) * factor
        advised = alone - self._taken(factor) + float(self._reserved_usd.sum())
        return Grown(factor, alone / hours, advised / hours)

    def _taken(self, factor: float) -> float:
        return float(taken_usd(self._facing, self._held, factor=factor).sum())

    def _inside(self, kind: Sequence[Weekday], start: int, end: int) -> NDArray[np.bool_]:
        found = self._found
        day = np.isin(found.weekday, [WEEK.index(day) for day in kind])
        inside: NDArray[np.bool_] = day & (found.hour >= start) & (found.hour < end)
        return inside
