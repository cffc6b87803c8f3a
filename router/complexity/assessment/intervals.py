"""How far would the figures move if the prompts were drawn again? Percentile bootstrap over prompts (Efron, Annals of
Statistics 7, 1979), 95 %. The estimator stays as it is: what another training set would change is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from router.complexity.assessment.rows import Rows
from router.complexity.evaluate import LEAST_ROWS, Array

RESAMPLES: Final = 400
GRID: Final = np.linspace(0.0, 1.0, 201)
"""Shares sent to large at which the curve's interval is taken."""
LEVELS: Final = (0.50, 0.80, 0.95)
_ENDS: Final = (0.025, 0.975)


class Interval(Struct, frozen=True):
    """Two ends of a figure."""

    low: float
    high: float


class Uncertainty(Struct, frozen=True):
    """Intervals of APGR, of CPT at each of `LEVELS` in percent, and of PGR at each of `GRID`: `low` and `high`."""

    apgr: Interval
    cpt: tuple[Interval, ...]
    low: Array
    high: Array


def uncertainty(score: Array, gain: Array, rng: Generator) -> Uncertainty | None:
    """Intervals for scores and true gains (n,); `None` for fewer than `LEAST_ROWS` rows or without a gap. Draws in
    which the gap vanished are left out."""
    count = len(score)
    if count < LEAST_ROWS or gain.sum() <= 0.0:
        return None
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], np.diff(score[order]) != 0.0)))
    sorted_gain, even = gain[order], np.full(count, 1.0 / count)
    curves = []
    for _ in range(RESAMPLES):
        drawn = rng.multinomial(count, even)
        gained = np.concatenate(([0.0], np.cumsum(np.add.reduceat(drawn * sorted_gain, starts))))
        if gained[-1] > 0.0:
            share = np.concatenate(([0.0], np.cumsum(np.add.reduceat(drawn, starts)))) / count
            curves.append(np.interp(GRID, share, gained / gained[-1]))
    if not curves:
        return None
    table = np.array(curves)
    reached = [100.0 * GRID[np.argmax(table >= level - 1e-12, axis=1)] for level in LEVELS]
    low, high = np.quantile(table, _ENDS, axis=0)
    areas = (table[:, 1:] + table[:, :-1]).mean(axis=1) / 2.0
    return Uncertainty(_interval(areas), tuple(_interval(one) for one in reached), low, high)


def _interval(values: Array) -> Interval:
    low, high = np.quantile(values, _ENDS).tolist()
    return Interval(low, high)


def by_source(rows: Rows, rng: Generator) -> Mapping[str, Interval]:
    """The interval of APGR of every source that has one."""
    sources = np.array([example.source for example in rows.examples])
    found = {}
    for source in np.unique(sources).tolist():
        inside = sources == source
        told = uncertainty(rows.score[inside], rows.gain[inside], rng)
        if told is not None:
            found[source] = told.apgr
    return found
