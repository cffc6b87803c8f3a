"""Has the mean of a stream moved away from where it slowly goes?

Means of batches are standardised by a reference that moves slowly, and summed up in both directions (CUSUM: Page,
Biometrika 1954). Batches make values nearly normal and the cost of a value two additions.
"""

from __future__ import annotations

import math

from msgspec import Struct

BATCH = 32
"""Values to a batch."""
_MEMORY = 64
"""Batches that the reference remembers: some two thousand values."""
_SETTLED = 16
"""Batches before anything counts as a move."""
_SLACK, _ALARM = 0.5, 10.0
"""In standard deviations of batch means: half of the move looked for, and the sum that tells of one. Where nothing
moves that is a false alarm in some 20,000 batches (Siegmund's approximation: Sequential Analysis, 1985)."""
_FARTHEST = 4.0


class Move(Struct, frozen=True):
    """From the reference's mean to that of the batches since it began."""

    what: str
    old: float
    new: float


class Stream:
    """The batch means of one quantity. `least` is the standard deviation below which nothing is worth telling."""

    __slots__ = ("_count", "_down", "_least", "_mean", "_runs", "_up", "_variance", "what")

    def __init__(self, what: str, *, least: float) -> None:
        self.what, self._least = what, least
        self._begin()

    def _begin(self) -> None:
        self._mean = self._variance = self._up = self._down = 0.0
        self._count = 0
        self._runs = [[0.0, 0.0], [0.0, 0.0]]

    def add(self, mean: float) -> Move | None:
        """The mean of one more batch; says where the stream has moved, and takes its new place as the reference."""
        self._count += 1
        if self._count == 1:
            self._mean = mean
            return None
        spread = max(math.sqrt(self._variance), self._least)
        z = min(max((mean - self._mean) / spread, -_FARTHEST), _FARTHEST)
        found = self._sum_up(mean, z) if self._count > _SETTLED else None
        if found is not None:
            self._begin()
            self._mean, self._count = found.new, 1
            return found
        share, error = 1.0 / min(self._count, _MEMORY), z * spread
        self._variance = (1.0 - share) * (self._variance + share * error * error)
        self._mean += share * error
        return None

    def _sum_up(self, mean: float, z: float) -> Move | None:
        self._up = max(self._up + z - _SLACK, 0.0)
        self._down = max(self._down - z - _SLACK, 0.0)
        for level, run in zip((self._up, self._down), self._runs, strict=True):
            if not level:
                run[:] = 0.0, 0.0
                continue
            run[0] += 1.0
            run[1] += mean
            if level >= _ALARM:
                return Move(self.what, self._mean, run[1] / run[0])
        return None


class Features:
    """What the requests of one class are like, and how many of them are told of."""

    __slots__ = ("_complexity", "_count", "_novelty", "_streams", "_tokens", "told")

    def __init__(self) -> None:
        self._novelty = self._complexity = self._tokens = 0.0
        self._count = self.told = 0
        self._streams = (
            Stream("novelty", least=0.01),
            Stream("complexity", least=0.01),
            Stream("input_tokens", least=0.05),
            Stream("share", least=0.05),
        )

    def add(self, novelty: float, complexity: float, input_tokens: int) -> list[Move] | None:
        """One request; what moved where a batch is full. Tokens are compared by their logarithm."""
        self._novelty += novelty
        self._complexity += complexity
        self._tokens += math.log(input_tokens + 1)
        self._count += 1
        return self._batch() if self._count >= BATCH else None

    def _batch(self) -> list[Move]:
        sums = (self._novelty, self._complexity, self._tokens, float(self.told))
        self._novelty = self._complexity = self._tokens = 0.0
        self._count = self.told = 0
        moves = [stream.add(value / BATCH) for stream, value in zip(self._streams, sums, strict=True)]
        return [_in_tokens(move) if move.what == "input_tokens" else move for move in moves if move is not None]


def _in_tokens(move: Move) -> Move:
    return Move(move.what, math.exp(move.old) - 1.0, math.exp(move.new) - 1.0)
