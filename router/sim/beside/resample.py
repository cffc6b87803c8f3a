"""How far could a figure of a stretch of time have come out otherwise? A moving-block bootstrap over arrival times.

Requests that come together meet the same load, so they are drawn together: a resample lays stretches of `block_s`
seconds, each beginning anywhere in the span (which is closed to a ring), until they are as long as the span
(Künsch 1989; the ring is Politis and Romano's, 1992). Two runs over the same arrivals are resampled alike, so the
interval of their difference is a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indexes = NDArray[np.intp]

BLOCK_S = 60.0
_CELLS = 10
"""A block begins at a tenth of a block."""
_FEWEST = 10
"""A span shorter than this many blocks is cut into as many shorter ones."""


class Blocks(Struct, frozen=True):
    """What was drawn: blocks of this length, out of so many, so often."""

    block_s: float
    blocks: int
    resamples: int


class TimeBlocks:
    """Resamples of one span of arrivals. `cell` is the cell of each arrival; `weights` (resamples x cells) says how
    often each resample holds each cell."""

    def __init__(self, arrivals_s: Sequence[float], *, resamples: int = 500, seed: int = 0) -> None:
        at = np.asarray(arrivals_s, dtype=np.float64)
        begin, span = (float(at.min()), float(np.ptp(at))) if len(at) else (0.0, 0.0)
        block_s = min(BLOCK_S, span / _FEWEST)
        cells = max(ceil(span / block_s * _CELLS), 1) if block_s > 0.0 else 1
        self.told = Blocks(block_s, ceil(cells / _CELLS), resamples if block_s > 0.0 else 0)
        self.cell: Indexes = np.zeros(len(at), dtype=np.intp)
        if block_s > 0.0:
            self.cell = np.minimum(((at - begin) / block_s * _CELLS).astype(np.intp), cells - 1)
        self.cells = cells
        self.weights = self._drawn(np.random.default_rng(seed))

    def _drawn(self, rng: np.random.Generator) -> Floats:
        weights = np.zeros((self.told.resamples, self.cells))
        within = np.arange(_CELLS)
        for row in weights:
            begins = rng.integers(self.cells, size=self.told.blocks)
            np.add.at(row, (begins[:, None] + within).ravel() % self.cells, 1.0)
        return weights

    def sums(self, values: Floats, which: Indexes) -> Floats:
        """The sum of a value over the requests `which`, in each resample."""
        by_cell = np.bincount(self.cell[which], weights=values, minlength=self.cells)
        drawn: Floats = self.weights @ by_cell
        return drawn

    def quantiles(self, values: Floats, which: Indexes, q: float) -> Floats:
        """The q-quantile of a value over the requests `which`, in each resample; NaN where it holds none of them."""
        order = np.argsort(values)
        cells, ordered = self.cell[which][order], values[order]
        found = np.full(len(self.weights), np.nan)
        for number, row in enumerate(self.weights):
            mass = np.cumsum(row[cells])
            if len(mass) and mass[-1] > 0.0:
                found[number] = ordered[np.searchsorted(mass, q * mass[-1])]
        return found
