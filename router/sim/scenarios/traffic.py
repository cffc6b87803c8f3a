"""Which requests does a scenario have? A process of unit rate, laid along the scenario's own rate.

Lengths and bursts are those of public traces as `bench/fit_arrivals.py` fits them: conversation and code of Azure's LLM
inference traces of 2023 (CC-BY-4.0). Truth and the recorded estimator follow the equal-variance binormal model of
signal detection (Green and Swets 1966): the score of a prompt is normal with variance 1, its mean `d` higher where the
small model is adequate, `d = sqrt(2) * normal quantile(AUC)`; the estimate is the posterior under the share adequate
that the estimator was calibrated on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import exp, log, sqrt
from random import Random
from statistics import NormalDist

from msgspec import Struct

from router.domain.errors import WorkloadError
from router.sim.workload import Arrival, Workload

AUC = 0.75
"""Of the recorded estimator."""


class Lengths(Struct, frozen=True):
    """Tokens whose logarithm is normal: (mean, deviation) of it, and the most there are."""

    input: tuple[float, float]
    output: tuple[float, float]
    input_most: int = 4096
    output_most: int = 1024

    def draw(self, rng: Random, longer: float) -> tuple[int, int]:
        """Tokens of a prompt and of its answer."""
        prompt = rng.lognormvariate(*self.input) * longer
        answer = rng.lognormvariate(*self.output) * longer
        return max(1, min(self.input_most, round(prompt))), max(1, min(self.output_most, round(answer)))


CONVERSATION = Lengths((6.713, 0.967), (5.041, 0.908))


class Bursts(Struct, frozen=True):
    """Off and on by turns, and nothing while it is off. The mean rate is kept."""

    on_s: float
    off_s: float


CODE_BURSTS = Bursts(on_s=8.5, off_s=20.5)
"""Mean stays of the busy and the quiet state that fit Azure's code trace."""


class Piece(Struct, frozen=True):
    """So many requests a second over `[begin_s, end_s)`."""

    begin_s: float
    end_s: float
    per_s: float


def bursty(piece: Piece, bursts: Bursts) -> Iterator[Piece]:
    """A piece broken into off and on; over whole turns its expected number of requests stays."""
    now, on = piece.begin_s, False
    busy = piece.per_s * (bursts.on_s + bursts.off_s) / bursts.on_s
    while now < piece.end_s:
        end = min(now + (bursts.on_s if on else bursts.off_s), piece.end_s)
        yield Piece(now, end, busy if on else 0.0)
        now, on = end, not on


def laid_along(units: Iterator[float], pieces: Sequence[Piece]) -> list[float]:
    """Times of a process of unit rate, moved so that its rate is that of the pieces: unit time is their integral."""
    sums = list(accumulate((p.end_s - p.begin_s) * p.per_s for p in pieces))
    times = []
    for unit in units:
        if not sums or unit >= sums[-1]:
            break
        index = bisect_right(sums, unit)
        before = sums[index - 1] if index else 0.0
        times.append(pieces[index].begin_s + (unit - before) / pieces[index].per_s)
    return times


def poisson(rng: Random) -> Iterator[float]:
    """A Poisson process of unit rate, without end."""
    now = 0.0
    while True:
        now += rng.expovariate(1.0)
        yield now


class Source:
    """Where requests come from: a time of unit rate for each, and what it asks."""

    def __init__(self, trace: Workload | None, models: tuple[str, str], *, seed: str) -> None:
        """`models` are the small and the large one; a trace must know the quality of both."""
        self._rows = () if trace is None else trace.arrivals
        if trace is not None:
            _check(trace, models)
        self._models = models
        self._seed = seed

    def units(self, stream: str) -> Iterator[float]:
        """The process of unit rate of a stream; a trace's own gaps, again from the start when it is at its end."""
        if not self._rows:
            yield from poisson(Random(f"{self._seed}/{stream}/arrivals"))
            return
        first, last = self._rows[0].at_s, self._rows[-1].at_s
        gap = (last - first) / (len(self._rows) - 1)
        turn = 0
        while True:
            for row in self._rows:
                yield (row.at_s - first) / gap + turn * len(self._rows)
            turn += 1

    def row(self, number: int) -> Arrival | None:
        """The trace's row for request `number` of a stream; `None` without a trace."""
        return self._rows[number % len(self._rows)] if self._rows else None

    def drawn(self, rng: Random, lengths: Lengths, *, hard_ratio: float, believed: float, longer: float) -> Arrival:
        """A request from the statistics; `believed` is the share of hard prompts that the estimator knows."""
        small, large = self._models
        tokens = lengths.draw(rng, longer)
        adequate = rng.random() >= hard_ratio
        estimate = estimated(adequate, believed, rng)
        return Arrival(
            0.0, *tokens, quality={small: float(adequate), large: 1.0}, estimate={small: estimate, large: 1.0}
        )


def estimated(adequate: bool, believed_hard: float, rng: Random) -> float:
    """P(small adequate) as an estimator of the AUC says it, calibrated on a share of hard prompts."""
    apart = sqrt(2.0) * NormalDist().inv_cdf(AUC)
    score = rng.gauss(apart / 2.0 if adequate else -apart / 2.0, 1.0)
    return 1.0 / (1.0 + exp(-(log((1.0 - believed_hard) / believed_hard) + apart * score)))


def _check(trace: Workload, models: tuple[str, str]) -> None:
    if len(trace.arrivals) < 2 or trace.arrivals[-1].at_s <= trace.arrivals[0].at_s:
        raise WorkloadError("a trace needs at least two requests at different times")
    for number, row in enumerate(trace.arrivals):
        missing = [model for model in models if model not in row.quality]
        if missing:
            raise WorkloadError(
                f"row {number + 1} has no quality.{missing[0]}: what is useful is told from the truth of both models"
            )
