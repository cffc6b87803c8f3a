"""The normal distribution, as cheaply as the standard library has it."""

from __future__ import annotations

import math

SQRT_HALF = math.sqrt(0.5)
_LEAST_P, _MOST_P = 1e-4, 1.0 - 1e-4


def below(value: float, mean: float, sigma: float) -> float:
    """P(X <= value) for X normal; `sigma > 0`."""
    return 0.5 * math.erfc((mean - value) / sigma * SQRT_HALF)


def logit(p: float) -> float:
    """Log odds, with `p` kept off 0 and 1."""
    if p < _LEAST_P:
        p = _LEAST_P
    elif p > _MOST_P:
        p = _MOST_P
    return math.log(p / (1.0 - p))


def sigmoid(x: float) -> float:
    """Inverse of `logit`."""
    if x < -40.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-x))
