"""Least squares whose coefficients cannot be negative, as times and prices cannot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_EXACT = 1e-10
"""Part of the sum of squares that rounding may leave."""


def non_negative(x: Vector, y: Vector) -> Vector:
    """Coefficients `>= 0` of `y = x @ coefficients`, one for each of a few columns.

    Every set of columns is tried, which is exact and quick for five. Of sets that explain about the same the smallest
    is taken, the first columns first: a column more must lower the sum of squares by more than chance would (2/n of
    it, Akaike 1974), so that what the rows cannot tell apart is given to the first of it, and what they do not show
    is 0.
    """
    size = np.sqrt((x * x).sum(axis=0))
    size[size == 0.0] = 1.0
    scaled = x / size
    normal, moment, total = scaled.T @ scaled, scaled.T @ y, float(y @ y)
    worth = 1.0 + 2.0 / max(len(y), 1)
    best, left = np.zeros(x.shape[1]), total
    for columns in _sets(x.shape[1]):
        found = np.linalg.lstsq(normal[np.ix_(columns, columns)], moment[list(columns)], rcond=1e-9)[0]
        if (found < 0.0).any():
            continue
        theta = np.zeros(x.shape[1])
        theta[list(columns)] = found
        residual = y - scaled @ theta
        square = float(residual @ residual)
        more = len(columns) - np.count_nonzero(best)
        if square + _EXACT * total < left / worth ** max(int(more), 0):
            best, left = theta, square
    return np.asarray(best / size)


def _sets(columns: int) -> Iterator[tuple[int, ...]]:
    """Every set of columns but the empty one, small ones first."""
    for length in range(1, columns + 1):
        yield from combinations(range(columns), length)
