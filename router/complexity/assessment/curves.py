"""Quality and cost over the share sent to large, and how far probabilities can be believed."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct

from router.complexity.assessment.rows import Rows
from router.complexity.evaluate import ECE_BINS, Array, area, auc, ece

_Z: Final = 1.96
"""Two-sided 95 %."""


class Curve(Struct, frozen=True):
    """Mean quality, and mean USD a prompt where costs are known, at each of the n + 1 cuts."""

    quality: Array
    cost: Array | None


class Tradeoff(Struct, frozen=True):
    """The share sent to large at each cut, from 0 to 1, and what the router, random mixing and an oracle that knows
    every gain make of it. `oracle_apgr` is `None` where large is not better on average."""

    share: Array
    router: Curve
    random: Curve
    oracle: Curve
    oracle_apgr: float | None


def tradeoff(rows: Rows) -> Tradeoff:
    """The curves of an evaluation. Rows with equal scores carry their group's mean, as in `evaluate`."""
    gain, count = rows.gain, len(rows.examples)
    share = np.linspace(0.0, 1.0, count + 1)
    base, gap = float(rows.quality[:, 0].mean()), float(gain.mean())
    oracle = _curve(rows, gain)
    perfect = area((oracle.quality - base) / gap) if gap > 0.0 else None
    return Tradeoff(share, _curve(rows, rows.score), _curve(rows, np.zeros(count)), oracle, perfect)


def _curve(rows: Rows, score: Array) -> Curve:
    quality = _carried(score, rows.quality)
    return Curve(quality, None if rows.cost is None else _carried(score, rows.cost))


def _carried(score: Array, values: Array) -> Array:
    """Mean of a figure (n, 2) at each cut: small everywhere, then large row by row in descending order of the score."""
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    steps = (np.bincount(group, weights=values[:, 1] - values[:, 0]) / size)[np.sort(group)]
    sums: Array = np.concatenate(([0.0], np.cumsum(steps)))
    curve: Array = sums / len(score) + values[:, 0].mean()
    return curve


class Bin(Struct, frozen=True):
    """Rows of similar P(adequate): how many, the mean of what was said, the share that came true, and the 95 %
    interval of that share (Wilson, JASA 22, 1927)."""

    rows: int
    said: float
    true: float
    low: float
    high: float


class Reliability(Struct, frozen=True):
    """Calibration of one model's P(adequate). `auc` is `None` where all rows came out alike."""

    model: str
    bins: tuple[Bin, ...]
    adequate_ratio: float
    auc: float | None
    brier: float
    ece: float


def reliability(model: str, p: Array, adequate: Array) -> Reliability:
    """Ten bins of equal mass, those that `ece` uses; p and adequate are (n,)."""
    parts = np.array_split(np.argsort(p, kind="stable"), min(ECE_BINS, len(p)))
    return Reliability(
        model=model,
        bins=tuple(_bin(p[part], adequate[part]) for part in parts),
        adequate_ratio=float(adequate.mean()),
        auc=auc(p, adequate > 0.5),
        brier=float(np.square(p - adequate).mean()),
        ece=ece(p, adequate),
    )


def _bin(p: Array, adequate: Array) -> Bin:
    rows, true = len(p), float(adequate.mean())
    scale = 1.0 + _Z * _Z / rows
    middle = (true + _Z * _Z / (2 * rows)) / scale
    half = _Z * math.sqrt(true * (1.0 - true) / rows + (_Z / (2 * rows)) ** 2) / scale
    return Bin(rows, float(p.mean()), true, max(middle - half, 0.0), min(middle + half, 1.0))


class Misses(Struct, frozen=True):
    """Indices of the rows where the gain was most wrong, worst first: too low (quality lost) and too high (calls to
    large for nothing)."""

    too_low: tuple[int, ...]
    too_high: tuple[int, ...]


def worst_misses(rows: Rows, most: int) -> Misses:
    """At most `most` rows of each kind; rows as wrong as each other keep their order."""
    wrong = rows.gain - rows.score
    low, high = np.argsort(-wrong, kind="stable")[:most], np.argsort(wrong, kind="stable")[:most]
    return Misses(
        tuple(int(row) for row in low if wrong[row] > 0.0), tuple(int(row) for row in high if wrong[row] < 0.0)
    )
