"""The ways to buy, and the units that each would best buy for a record.

Units under a commitment are held at all hours. Units without one may come and go by the hour, alone or on top of a
commitment; a day is then cut into a few blocks. Cuts, units and the committed base are found together by dynamic
programming over the hours, for every number of committed units at once: exactly, but that a cut which saves next to
nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from msgspec import Struct

from router.control.newsvendor import Floats
from router.sim.capacity.days import HOURS, WEEK, Days, Integers, Pattern
from router.sim.capacity.saved import Saved

WORTH_A_CUT = 0.002
"""Share of the on-demand money that a day's further blocks must save together."""


class Commitment(StrEnum):
    """For how long a unit is bought. Without a commitment it is bought by the hour."""

    NONE = "none"
    ONE_MONTH = "one-month"
    SIX_MONTHS = "six-months"


class Offer(Struct, frozen=True):
    """A way to buy: `base` is held at all hours (`None`: nothing is), `by_hours` are units without a commitment that
    come and go (`None`: there are none). Prices are USD per unit and hour."""

    base: Commitment | None
    base_usd: float = 0.0
    by_hours_usd: float | None = None

    @property
    def name(self) -> str:
        """In words."""
        if self.base is None:
            return "nothing reserved" if self.by_hours_usd is None else "no commitment, by hours"
        told = {
            Commitment.NONE: "no commitment",
            Commitment.ONE_MONTH: "one month",
            Commitment.SIX_MONTHS: "six months",
        }
        return told[self.base] + (", all hours" if self.by_hours_usd is None else " + by hours")


class Block(Struct, frozen=True):
    """Units on top of the base from hour `start` up to hour `end` on days of a kind; a level of the table."""

    kind: int
    start: int
    end: int
    extra: int


class Held(Struct, frozen=True):
    """What is bought: `base` and the `extra` of each block are places in the levels of the table."""

    base: int = 0
    blocks: tuple[Block, ...] = ()

    def on_top(self, kinds: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """On top of the base by kind of day and hour."""
        found = np.zeros((kinds, HOURS), dtype=np.int64)
        for block in self.blocks:
            found[block.kind, block.start : block.end] = block.extra
        return found


def offers(prices: Mapping[Commitment, float], pattern: Pattern) -> list[Offer]:
    """Those that the prices allow, the simplest and shortest first."""
    found = [Offer(None)]
    found += [Offer(term, prices[term]) for term in Commitment if term in prices]
    hourly = prices.get(Commitment.NONE)
    if pattern is not Pattern.FLAT and hourly is not None:
        found.append(Offer(None, 0.0, hourly))
        found += [Offer(t, prices[t], hourly) for t in Commitment if t in prices and prices[t] < hourly]
    return found


class Sums(Struct, frozen=True):
    """The table over some folds: `taken_usd[kind, hour, level]`, `minutes[kind, hour]`, and all on-demand money."""

    taken_usd: Floats
    minutes: Floats
    paid_usd: float


class Market:
    """The table with the kinds of days that are planned alike; `blocks` is the most that a day is cut into, and
    `worth_a_cut` the share of the on-demand money that more of them must save."""

    def __init__(
        self, table: Saved, days: Days, pattern: Pattern, *, blocks: int, worth_a_cut: float = WORTH_A_CUT
    ) -> None:
        self.table, self.blocks, self.kinds, self._worth_a_cut = table, blocks, pattern.kinds, worth_a_cut
        kind_of = np.array([next(i for i, kind in enumerate(self.kinds) if day in kind) for day in WEEK])
        self.fold_kind = kind_of[days.fold_weekday]
        own = [self.fold_kind == kind for kind in range(len(self.kinds))]
        self.all = Sums(
            taken_usd=np.stack([table.taken_usd[at].sum(axis=0) for at in own]),
            minutes=np.stack([table.minutes[at].sum(axis=0) for at in own]),
            paid_usd=float(table.paid_usd.sum()),
        )

    def without(self, fold: int) -> Sums:
        """Over all folds but one."""
        taken, minutes = self.all.taken_usd.copy(), self.all.minutes.copy()
        taken[self.fold_kind[fold]] -= self.table.taken_usd[fold]
        minutes[self.fold_kind[fold]] -= self.table.minutes[fold]
        return Sums(taken, minutes, self.all.paid_usd - float(self.table.paid_usd[fold]))

    def best(self, offer: Offer, sums: Sums) -> Held:
        """The units that cost least on some folds."""
        levels, length = self.table.levels, float(sums.minutes.sum())
        if offer.by_hours_usd is None:
            if offer.base is None:
                return Held()
            net = sums.taken_usd.sum(axis=(0, 1)) - length * levels * offer.base_usd / 60.0
            return Held(int(np.argmax(net)))
        by_hour = sums.taken_usd - sums.minutes[:, :, None] * levels * offer.by_hours_usd / 60.0
        cuts = [_Cuts(net, self.blocks) for net in by_hour]
        base = 0
        if offer.base is not None:
            cheaper = length * levels * (offer.by_hours_usd - offer.base_usd) / 60.0
            base = int(np.argmax(np.sum([cut.best for cut in cuts], axis=0) + cheaper))
        worth = self._worth_a_cut * sums.paid_usd
        return Held(base, tuple(block for kind, cut in enumerate(cuts) for block in cut.blocks(kind, base, worth)))

    def units(self, held: Held) -> list[int]:
        """Units of each block, those of the base counted; of the base alone where there are no blocks."""
        return [int(self.table.levels[held.base + extra]) for extra in [block.extra for block in held.blocks] or [0]]

    def redrawn_units(self, offer: Offer, held: Held, weights: Floats) -> Integers:
        """The same in the same blocks, had folds counted so often: a row for each row of `weights` (rows x folds)."""
        levels, minutes = self.table.levels, self.table.minutes
        length = (weights @ minutes.sum(axis=1))[:, None]
        if offer.base is None and offer.by_hours_usd is None:
            return np.zeros((len(weights), 1), dtype=np.int64)
        if offer.by_hours_usd is None:
            taken = weights @ self.table.taken_usd.sum(axis=1)
            best = np.argmax(taken - length * levels * offer.base_usd / 60.0, axis=1)
            return np.asarray(levels[best][:, None], dtype=np.int64)
        own = []
        for block in held.blocks:
            folds = np.flatnonzero(self.fold_kind == block.kind)
            taken = weights[:, folds] @ self.table.taken_usd[folds, block.start : block.end].sum(axis=1)
            paid = (weights[:, folds] @ minutes[folds, block.start : block.end].sum(axis=1))[:, None]
            own.append(taken - paid * levels * offer.by_hours_usd / 60.0)
        base = np.zeros(len(weights), dtype=np.int64)
        if offer.base is not None:
            cheaper = length * levels * (offer.by_hours_usd - offer.base_usd) / 60.0
            base = np.argmax(np.sum([_at_least(net) for net in own], axis=0) + cheaper, axis=1)
        above = np.arange(len(levels)) >= base[:, None]
        return np.stack([levels[np.argmax(np.where(above, net, -np.inf), axis=1)] for net in own], axis=1)

    def usd(self, offer: Offer, held: Held) -> Floats:
        """What each fold costs, reserved and on demand."""
        table, extra = self.table, held.on_top(len(self.kinds))[self.fold_kind]
        levels = held.base + extra
        fold, hour = np.ogrid[: len(levels), :HOURS]
        taken = table.taken_usd[fold, hour, levels].sum(axis=1)
        reserved = table.minutes.sum(axis=1) * float(table.levels[held.base]) * offer.base_usd / 60.0
        reserved += (table.minutes * table.levels[extra]).sum(axis=1) * (offer.by_hours_usd or 0.0) / 60.0
        cost: Floats = table.paid_usd - taken + reserved
        return cost


def _at_least(net: Floats) -> Floats:
    """The best of each level and all above it."""
    return np.maximum.accumulate(net[..., ::-1], axis=-1)[..., ::-1]


class _Cuts:
    """How one kind of day is best cut into blocks, for every number of units that are held anyway.

    `best[level]` is the most that can be gained with at least `level` units at every hour."""

    def __init__(self, net: Floats, most: int) -> None:
        self._sums = np.concatenate((np.zeros((1, net.shape[1])), np.cumsum(net, axis=0)))
        self._gain = {end: _at_least(self._sums[end] - self._sums[:end]) for end in range(1, HOURS + 1)}
        worst = np.full((1, net.shape[1]), -np.inf)
        by_end = np.concatenate((np.zeros((1, net.shape[1])), np.repeat(worst, HOURS, axis=0)))
        self._reached: list[Floats] = [by_end]
        for _ in range(most):
            last = self._reached[-1]
            ends = [(last[:end] + self._gain[end]).max(axis=0, keepdims=True) for end in range(1, HOURS + 1)]
            self._reached.append(np.concatenate((worst, *ends)))
        self.best: Floats = np.max([reached[HOURS] for reached in self._reached[1:]], axis=0)

    def blocks(self, kind: int, base: int, worth: float) -> Sequence[Block]:
        """The fewest blocks that come within `worth` (USD) of the best, with the units on top of `base`."""
        ends = [float(reached[HOURS, base]) for reached in self._reached]
        goal = max(ends[1:]) - worth
        number = next(n for n, value in enumerate(ends) if n and value >= goal - 1e-9 * max(1.0, abs(goal)))
        found: list[Block] = []
        end = HOURS
        while number:
            number -= 1
            start = int(np.argmax(self._reached[number][:end, base] + self._gain[end][:, base]))
            extra = int(np.argmax((self._sums[end] - self._sums[start])[base:]))
            found.insert(0, Block(kind, start, end, extra))
            end = start
        return found
