"""Outcomes as a stream under a budget, in many seeded orders, with what happens to a model on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.costs import CostForecast
from router.complexity.evaluate import request_of
from router.complexity.outcomes import Example
from router.complexity.trained import TrainedEstimator
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.sim.online.happenings import Happening
from router.sim.online.learner import Case, Learner
from router.sim.online.references import Compared, Interval, alone_by_row, compared

BIN: Final = 50
_Z: Final = 1.96
"""Two-sided 95 %."""
Array = NDArray[np.float64]


class Moment(Struct, frozen=True):
    """Quality and cost of fifty requests in a row; the intervals are over seeds."""

    quality: Interval
    cost_usd: Interval


class Streamed(Struct, frozen=True):
    """What came of it: quality and cost a request, cost over budget, and how often each model was chosen: over all,
    and by fifty requests; `against` holds it against the models alone."""

    quality: Interval
    cost_usd: Interval
    budget_ratio: float
    shares: dict[str, float]
    shares_by_50: list[dict[str, float]]
    by_50: list[Moment]
    against: Compared
    rows: int
    seeds: int


class _Passes(Struct, frozen=True):
    """By seed and row, shape (S, N): the quality and cost; by seed and place in the stream: the row and the model
    chosen."""

    quality: Array
    cost_usd: Array
    row: NDArray[np.int64]
    chosen: NDArray[np.int64]


def cases_of(
    examples: Sequence[Example],
    models: Sequence[str],
    prior: TrainedEstimator,
    forecast: CostForecast | None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Case]:
    """What is known before, and true, of each example that has outcomes and costs of all models. The first model is
    taken for a small one, the others for large, where the prior knows only tiers."""
    tiers = [(model, Tier.LARGE if i else Tier.SMALL) for i, model in enumerate(models)]
    narrowed = prior.serving(tiers)
    weights = None if forecast is None else forecast.of(models)
    cases = []
    for done, example in enumerate(examples, start=1):
        progress(done)
        seen = [example.outcomes.get(model) for model in models]
        quality = [one.quality for one in seen if one is not None]
        cost = [one.cost_usd for one in seen if one is not None and one.cost_usd is not None]
        if len(quality) < len(models) or len(cost) < len(models):
            continue
        request = request_of(example.prompt)
        dense, flags = narrowed.dense(request)
        scored = narrowed.judge(request, dense, flags)
        cases.append(
            Case(
                tokens=request.input_tokens,
                kind=scored.use_case,
                quality=tuple(scored.quality(model, tier) for model, tier in tiers),
                ease=scored.ease(),
                forecast=() if forecast is None or weights is None else forecast.log_usd(dense, weights),
                true_quality=tuple(quality),
                true_cost_usd=tuple(cost),
            )
        )
    if not cases:
        raise RouterError(f"no prompt has quality and cost_usd of all of {', '.join(models)}", code="invalid_outcomes")
    return cases


def stream(
    cases: Sequence[Case],
    models: Sequence[str],
    *,
    budget_usd: float,
    seeds: int,
    happenings: Sequence[Happening] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Streamed:
    """Every seed is an order of the rows, and a learner of its own."""
    strangers = sorted({one.model for one in happenings} - set(models))
    if strangers:
        raise RouterError(f"--event names {strangers[0]}, which is not one of --models")
    shape = (seeds, len(cases))
    passes = _Passes(np.empty(shape), np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int64))
    for seed in range(seeds):
        _run(cases, models, budget_usd, happenings, seed, passes)
        progress(seed + 1)
    against = compared(passes.quality, passes.cost_usd, *alone_by_row(cases, models, happenings), models)
    starts = range(0, len(cases), BIN)
    return Streamed(
        quality=against.quality,
        cost_usd=against.cost_usd,
        budget_ratio=against.cost_usd.mean / budget_usd,
        shares=_shares(passes.chosen, models),
        shares_by_50=[_shares(passes.chosen[:, at : at + BIN], models) for at in starts],
        by_50=[_moment(passes, at) for at in starts],
        against=against,
        rows=len(cases),
        seeds=seeds,
    )


def _run(
    cases: Sequence[Case],
    models: Sequence[str],
    budget_usd: float,
    happenings: Sequence[Happening],
    seed: int,
    into: _Passes,
) -> None:
    """One pass."""
    order = list(range(len(cases)))
    Random(seed).shuffle(order)
    rng = Random(seed)
    learner = Learner(len(models), has_forecast=bool(cases[0].forecast), budget_usd=budget_usd)
    for place, row in enumerate(order):
        case = cases[row]
        model, _ = learner.choose(case, rng=rng)
        quality, cost_usd = case.true_quality[model], case.true_cost_usd[model]
        for one in happenings:
            if one.model == models[model] and one.covers(place / len(order)):
                cost_usd *= one.cost_factor
                quality = quality if one.quality is None else one.quality
        learner.learn(case, model, quality, cost_usd)
        into.quality[seed, row], into.cost_usd[seed, row] = quality, cost_usd
        into.row[seed, place], into.chosen[seed, place] = row, model


def _shares(chosen: NDArray[np.int64], models: Sequence[str]) -> dict[str, float]:
    return {model: float((chosen == index).mean()) for index, model in enumerate(models)}


def _moment(passes: _Passes, first: int) -> Moment:
    rows = passes.row[:, first : first + BIN]
    return Moment(*(_over_seeds(np.take_along_axis(v, rows, axis=1)) for v in (passes.quality, passes.cost_usd)))


def _over_seeds(values: Array) -> Interval:
    """Of the mean of values (S, n), from the spread of the seeds; no wider than the mean where there is one seed."""
    by_seed = values.mean(axis=1)
    mean = float(by_seed.mean())
    half = _Z * float(by_seed.std(ddof=1)) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else 0.0
    return Interval(mean, mean - half, mean + half)
