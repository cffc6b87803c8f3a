"""How sure is a share, counted out of few?"""

from __future__ import annotations

import math
from collections.abc import Callable

_HALVINGS = 60


def clopper_pearson(count: int, of: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a probability of which `count` out of `of` trials came out: exact, so it covers it at least as often
    as it says (Clopper and Pearson, Biometrika 1934)."""
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else _root(lambda p: at_least(count, of, p) < tail)
    high = 1.0 if count == of else _root(lambda p: 1.0 - at_least(count + 1, of, p) > tail)
    return low, high


def at_least(count: int, of: int, p: float) -> float:
    """P(X >= count), X binomial; `0 < p < 1`."""
    odds, free = math.log(p), math.log1p(-p)
    ways = math.lgamma(of + 1)
    return math.fsum(
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * odds + (of - k) * free)
        for k in range(count, of + 1)
    )


def _root(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2.0
