"""Demand minute by minute, in units of reserved capacity and in on-demand money."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from router.control.newsvendor import Floats, Need, need
from router.domain.deployment import Price, TokenQuota
from router.domain.errors import RouterError
from router.sim.capacity.calls import Calls

LEAST_MINUTES = 60
_MINUTE_S = 60.0


class Minutes:
    """Whole minutes of a record; `first` is the minute since the epoch that it begins with. `scale` multiplies the
    number of calls, not their size. A call that a full minute of the units held could not take never goes to them."""

    def __init__(self, calls: Calls, unit: TokenQuota, price: Price, *, scale: float = 1.0) -> None:
        minute = np.floor(calls.at_s / _MINUTE_S).astype(np.int64)
        self.first = int(minute[0]) + (0 if calls.whole_start else 1)
        self.count = int(minute[-1]) - self.first
        if self.count < LEAST_MINUTES:
            raise RouterError(
                f"whole minutes of demand: {max(self.count, 0)}. That is too little to advise on: bring an hour at the "
                "very least; two weeks say how days differ"
            )
        whole = (minute >= self.first) & (minute < self.first + self.count)
        self._at: NDArray[np.int64] = minute[whole] - self.first
        self._input, self._output = calls.input_tokens[whole], calls.output_tokens[whole]
        self._unit, self._price, self._scale = unit, price, scale
        self.own_units = need(self._input, self._output, unit, price).units
        """Units whose full minute each call would take up."""
        self.largest = float(self.own_units.max(initial=0.0))
        self.all = self._summed(slice(None))

    @property
    def calls(self) -> int:
        """How many lie in whole minutes."""
        return len(self._at)

    @property
    def tokens(self) -> tuple[float, float]:
        """Input and output tokens a minute on average, as scaled."""
        share = self._scale / self.count
        return float(self._input.sum()) * share, float(self._output.sum()) * share

    def fitting(self, held: float) -> Need:
        """Demand of the calls that so many units could take at all."""
        return self.all if held >= self.largest else self._summed(np.flatnonzero(self.own_units <= held))

    def growing(self, levels: Iterable[int]) -> Iterator[Need]:
        """`fitting` of one number of units after the other, which must grow: each call is looked at once."""
        order = np.argsort(self.own_units, kind="stable")
        ends = self.own_units[order]
        given, made, done = np.zeros(self.count), np.zeros(self.count), 0
        found = need(given, made, self._unit, self._price)
        for level in levels:
            end = int(np.searchsorted(ends, level, side="right"))
            if end > done:
                more = order[done:end]
                given, made = given + self._by_minute(self._input, more), made + self._by_minute(self._output, more)
                found, done = need(given, made, self._unit, self._price), end
            yield found

    def facing(self, held: NDArray[np.int64]) -> Need:
        """Demand of the calls that the units `held` in each minute could take."""
        units, usd = np.zeros(self.count), np.zeros(self.count)
        for level in np.unique(held).tolist():
            at, demand = held == level, self.fitting(level)
            units[at], usd[at] = demand.units[at], demand.usd[at]
        return Need(units, usd)

    def output_bound_ratio(self) -> float:
        """Share of on-demand money in minutes that output tokens bound, not input tokens."""
        given, made = (self._by_minute(tokens, slice(None)) for tokens in (self._input, self._output))
        bound = made / self._unit.output_tokens_per_min > given / self._unit.input_tokens_per_min
        total = float(self.all.usd.sum())
        return float(self.all.usd[bound].sum()) / total if total else 0.0

    def larger_than(self, held: float) -> float:
        """Share of on-demand money that is for calls which a full minute of `held` units could not take."""
        usd, total = float(self.fitting(held).usd.sum()), float(self.all.usd.sum())
        return 1.0 - usd / total if total else 0.0

    def longest_gap(self) -> tuple[int, int]:
        """The longest stretch without a call: its first minute since the epoch, and how many minutes."""
        edges = np.concatenate(([-1], np.unique(self._at), [self.count]))
        gaps = np.diff(edges) - 1
        longest = int(np.argmax(gaps))
        return self.first + int(edges[longest]) + 1, int(gaps[longest])

    def _summed(self, which: slice | NDArray[np.intp]) -> Need:
        given, made = self._by_minute(self._input, which), self._by_minute(self._output, which)
        return need(given, made, self._unit, self._price)

    def _by_minute(self, tokens: Floats, which: slice | NDArray[np.intp]) -> Floats:
        summed = np.bincount(self._at[which], weights=tokens[which], minlength=self.count)
        return np.asarray(summed * self._scale, dtype=np.float64)
