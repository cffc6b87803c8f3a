"""The normal distribution, as cheaply as the standard library has it."""

from __future__ import annotations

import math

_SQRT_HALF = math.sqrt(0.5)


def below(value: float, mean: float, sigma: float) -> float:
    """P(X <= value) for X normal; `sigma > 0`."""
    return 0.5 * math.erfc((mean - value) / sigma * _SQRT_HALF)


def logit(p: float) -> float:
    """Log odds, with `p` kept off 0 and 1."""
    clipped = min(max(p, 1e-4), 1.0 - 1e-4)
    return math.log(clipped / (1.0 - clipped))


def sigmoid(x: float) -> float:
    """Inverse of `logit`."""
    if x < -40.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-x))
