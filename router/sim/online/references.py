"""What is the learning router to be held against? Each model alone, and the straight mixture of models.

The mixture is the best that can be had at a mean cost without looking at a prompt: a draw between two models, or the
cheaper one where money is left over that buys nothing. Whoever learns and looks should do better at the same cost.
Intervals are of 95 %, by bootstrap over orders and prompts; the router and the models alone are compared on the same
draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.sim.online.happenings import Happening
from router.sim.online.learner import Case

_RESAMPLES: Final = 1000
_ENDS: Final = (0.025, 0.975)
Array = NDArray[np.float64]


class Interval(Struct, frozen=True):
    """A mean and its 95 % interval, by bootstrap over seeds and rows."""

    mean: float
    low: float
    high: float


class Alone(Struct, frozen=True):
    """One model for every prompt."""

    model: str
    quality: Interval
    cost_usd: Interval


class Compared(Struct, frozen=True):
    """The router's quality and cost; the models alone; the quality of the mixture at the router's cost; and how much
    better than it the router is."""

    quality: Interval
    cost_usd: Interval
    alone: tuple[Alone, ...]
    mixture: Interval
    lead: Interval


def compared(quality: Array, cost: Array, fixed_quality: Array, fixed_cost: Array, models: Sequence[str]) -> Compared:
    """From the router's figures by seed and row (S, N), and those of the models by row (N, M)."""
    rng = np.random.default_rng(0)
    seeds, rows = quality.shape
    drawn = []
    for _ in range(_RESAMPLES):
        some, which = rng.integers(0, seeds, seeds), np.bincount(rng.integers(0, rows, rows), minlength=rows) / rows
        q, usd = float(quality[some].mean(axis=0) @ which), float(cost[some].mean(axis=0) @ which)
        alone_q, alone_usd = which @ fixed_quality, which @ fixed_cost
        mixed = mixture(alone_usd, alone_q, usd)
        drawn.append([q, usd, mixed, q - mixed, *alone_q, *alone_usd])
    table = np.array(drawn)
    q, usd = float(quality.mean()), float(cost.mean())
    alone_q, alone_usd = fixed_quality.mean(axis=0), fixed_cost.mean(axis=0)
    mixed = mixture(alone_usd, alone_q, usd)
    means = [q, usd, mixed, q - mixed, *alone_q.tolist(), *alone_usd.tolist()]
    lows, highs = np.quantile(table, _ENDS, axis=0).tolist()
    spans = [Interval(*ends) for ends in zip(means, lows, highs, strict=True)]
    count = len(models)
    alone = tuple(Alone(*row) for row in zip(models, spans[4 : 4 + count], spans[4 + count :], strict=True))
    return Compared(spans[0], spans[1], alone, spans[2], spans[3])


def alone_by_row(cases: Sequence[Case], models: Sequence[str], happenings: Sequence[Happening]) -> tuple[Array, Array]:
    """Quality and cost of every model on every row, (N, M), as they are on average over the places that a row may have
    in the stream."""
    places = np.arange(len(cases)) / len(cases)
    quality = np.array([case.true_quality for case in cases])
    cost = np.array([case.true_cost_usd for case in cases])
    for at, model in enumerate(models):
        given, factor = np.full(len(cases), np.nan), np.ones(len(cases))
        for one in happenings:
            on = np.array([one.model == model and one.covers(place) for place in places.tolist()])
            factor[on] *= one.cost_factor
            if one.quality is not None:
                given[on] = one.quality
        free = float(np.isnan(given).mean())
        quality[:, at] = quality[:, at] * free + float(np.nansum(given)) / len(cases)
        cost[:, at] *= factor.mean()
    return quality, cost


def mixture(cost: Array, quality: Array, usd: float) -> float:
    """The best mean quality of models, (M,) each, drawn at random with a mean cost of at most `usd`; that of the
    cheapest where nothing is as cheap."""
    best = float(quality[int(np.argmin(cost))])
    below = [at for at in range(len(cost)) if cost[at] <= usd]
    best = max([best, *(float(quality[at]) for at in below)])
    for low in below:
        for high in range(len(cost)):
            if cost[high] > usd:
                share = (usd - cost[low]) / (cost[high] - cost[low])
                best = max(best, float(quality[low] + share * (quality[high] - quality[low])))
    return best
