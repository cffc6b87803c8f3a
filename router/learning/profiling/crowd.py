"""What was in flight, on the average over the steps of the server, while something lasted?

Between two moments at which an answer begins or ends, the number of calls that decode stays as it is. Longer steps take
more of the time without being more steps; so once something is known of how long a step is (`Pace`), each stretch
counts by the steps that fit into it, less the time that prompts took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.learning.profiling.calls import Sample

Vector = NDArray[np.float64]


class Pace(NamedTuple):
    """Seconds of a step, of each sequence, context token and prompt token in it."""

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    per_prefill_token_s: float


ALIKE = Pace(1.0, 0.0, 0.0, 0.0)
"""All steps are taken to be equally long."""


class Crowd:
    """All answers of one level. A call decodes from its first token to its end, over a context that is taken to be that
    of its middle; its prompt has been taken in when the first token comes. One that came whole decodes all the time."""

    def __init__(self, answers: Sequence[Sample], pace: Pace = ALIKE) -> None:
        sent, ended = _vector([s.sent for s in answers]), _vector([s.ended for s in answers])
        began = _vector([s.sent if s.first is None else s.first for s in answers])
        prompts = _vector([s.input_tokens for s in answers])
        contexts = prompts + 0.5 * _vector([s.output_tokens for s in answers])
        self._times = np.unique(np.concatenate((sent, began, ended)))
        size = len(self._times)
        starts, stops = self._times.searchsorted(began), self._times.searchsorted(ended)

        def held(amounts: Vector) -> Vector:
            return np.cumsum(_at(starts, amounts, size) - _at(stops, amounts, size))[:-1]

        sequences, context = held(np.ones(len(answers))), held(contexts)
        taken = _at(starts, prompts, size)
        free_s = np.maximum(np.diff(self._times) - pace.per_prefill_token_s * taken[1:], 0.0)
        steps = free_s / (pace.base_s + pace.per_sequence_s * sequences + pace.per_context_token_s * context)
        self._steps = _sums(steps)
        self._sequences, self._context = _sums(steps * sequences), _sums(steps * context)
        self._taken = np.cumsum(taken)

    def over(self, starts: Vector, ends: Vector) -> tuple[Vector, Vector, Vector]:
        """Calls decoding and tokens of context that they held, the means over steps; and all prompt tokens that were
        taken in after each start and until its end. Starts and ends are moments at which a call was sent, began or
        ended."""
        here, there = self._times.searchsorted(starts), self._times.searchsorted(ends)
        steps = np.maximum(self._steps[there] - self._steps[here], 1e-12)
        return (
            (self._sequences[there] - self._sequences[here]) / steps,
            (self._context[there] - self._context[here]) / steps,
            self._taken[there] - self._taken[here],
        )


def _vector(values: Sequence[float]) -> Vector:
    return np.asarray(values, dtype=np.float64)


def _at(places: NDArray[np.intp], amounts: Vector, size: int) -> Vector:
    return np.bincount(places, weights=amounts, minlength=size).astype(np.float64)


def _sums(values: Vector) -> Vector:
    return np.concatenate(([0.0], np.cumsum(values)))
