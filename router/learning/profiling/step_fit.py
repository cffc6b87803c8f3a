"""What does a step of the server cost? The figures of `StepProfile` out of the calls of a load test.

A call that gives n tokens after its first waits for n steps, `n*(a + b*B + c*ctx) + e*P` seconds with B sequences
decoding over ctx tokens of context meanwhile, and P prompt tokens of others taken in. The first token comes after the
steps that take the prompt in, and a fixed time that no step explains: the network, a gateway, somebody else's queue.
Rows are scaled by what was observed, so that errors are relative. First tokens count at the least concurrency only:
beyond it they are a matter of who waits for whom. Rows far off (three robust standard deviations) are left out of the
second of two rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from router.domain.deployment import StepProfile
from router.learning.profiling.calls import Level, Sample
from router.learning.profiling.crowd import ALIKE, Crowd, Pace, Vector
from router.stats.non_negative import non_negative

_LEAST_ROWS = 8
_FAR = 3.0
_SIGMA_OF_MEDIAN = 1.4826
_UNDER_WAY = 0.5
"""Of a step, that a prompt which finds the server busy waits for on the average."""


_ROUNDS = 4
"""Of fitting: what is known of the steps says how many there were while others were in flight."""
_LEAST_BASE_S = 1e-6
"""A step takes some time, whatever a noisy fit says; a policy takes no other figures."""


class LevelFit(Struct, frozen=True):
    """The mean gap between tokens at a level, as measured and as the fit has it."""

    concurrency: int
    measured_ms: float
    fitted_ms: float


class StepFit(Struct, frozen=True):
    """`off_ratio` is how far half of the calls are off at most. `levels` holds those with gaps."""

    step: StepProfile
    rows: int
    off_ratio: float
    levels: tuple[LevelFit, ...]


class _Rows(NamedTuple):
    """Terms (steps, of sequences, of context, of prompts, fixed) and the seconds that they should add up to."""

    x: Vector
    y: Vector


_NONE = _Rows(np.zeros((0, 5)), np.zeros(0))


def fit_step(levels: Sequence[Level], *, step_token_budget: int, source: str) -> StepFit | None:
    """Figures of a step; `None` where fewer than eight answers were streamed with two tokens or more."""
    pace, theta, off = ALIKE, np.zeros(5), 0.0
    gaps: list[tuple[int, _Rows]] = []
    rows = 0
    for _ in range(_ROUNDS):
        gaps = [(level.concurrency, found) for level in levels if len((found := _gaps(level, pace)).y)]
        if sum(len(found.y) for _, found in gaps) < _LEAST_ROWS:
            return None
        least = min(levels, key=lambda level: level.concurrency)
        every = [found for _, found in gaps] + [_firsts(least, step_token_budget, pace)]
        x, y = np.concatenate([found.x for found in every]), np.concatenate([found.y for found in every])
        theta, off = _solved(x / y[:, None], np.ones(len(y)))
        rows = len(y)
        pace = Pace(max(float(theta[0]), _LEAST_BASE_S), *theta[1:4].tolist())
    _, b, c, e, first_s = theta.tolist()
    return StepFit(
        step=StepProfile(pace.base_s, b, c, e, step_token_budget, source, first_s),
        rows=rows,
        off_ratio=off,
        levels=tuple(_level_fit(n, found, theta) for n, found in gaps),
    )


def _level_fit(concurrency: int, rows: _Rows, theta: Vector) -> LevelFit:
    steps = rows.x[:, 0]
    measured, fitted = rows.y / steps, rows.x @ theta / steps
    return LevelFit(concurrency, float(measured.mean()) * 1e3, float(fitted.mean()) * 1e3)


def _solved(x: Vector, y: Vector) -> tuple[Vector, float]:
    theta = non_negative(x, y)
    off = np.abs(y - x @ theta)
    near = off <= _FAR * _SIGMA_OF_MEDIAN * float(np.median(off)) + 1e-9
    theta = non_negative(x[near], y[near])
    return theta, float(np.median(np.abs(y - x @ theta)))


def _gaps(level: Level, pace: Pace) -> _Rows:
    """One row for each streamed answer: the time between its first token and its last."""
    calls = [
        (s.first, s.ended, s.output_tokens - 1.0)
        for s in level.samples
        if s.code is None and s.first is not None and s.output_tokens > 1 and s.ended > s.first
    ]
    if not calls:
        return _NONE
    starts, ends, steps = np.asarray(calls, dtype=float).T
    sequences, context, prompts = Crowd(_answers(level), pace).over(starts, ends)
    fixed = np.zeros(len(calls))
    return _Rows(np.stack((steps, steps * sequences, steps * context, prompts, fixed), axis=1), ends - starts)


def _firsts(level: Level, budget: int, pace: Pace) -> _Rows:
    """One row for each first token."""
    calls = [(s.sent, s.first) for s in level.samples if s.code is None and s.first is not None and s.first > s.sent]
    if not calls:
        return _NONE
    starts, ends = np.asarray(calls, dtype=float).T
    sequences, context, prompts = Crowd(_answers(level), pace).over(starts, ends)
    steps = np.ceil(prompts / budget - 1e-9) + _UNDER_WAY * np.minimum(sequences, 1.0)
    fixed = np.ones(len(calls))
    return _Rows(np.stack((steps, steps * sequences, steps * context, prompts, fixed), axis=1), ends - starts)


def _answers(level: Level) -> list[Sample]:
    return [s for s in (*level.warm_ups, *level.samples) if s.code is None and s.ended > s.sent]
