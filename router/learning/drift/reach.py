"""How novel may a prompt be for what feedback taught to hold for it?"""

from __future__ import annotations

_MEMORY = 50
"""Answers."""
_WIDTH = 2.0
"""Mean absolute deviations above the mean up to which nothing is discounted."""
_FIRST_DEVIATION = 0.1


class Reach:
    """The novelty of the prompts that feedback came for: of late, and how far it scatters."""

    __slots__ = ("_count", "_deviation", "_mean")

    def __init__(self) -> None:
        self._mean, self._deviation, self._count = 0.0, _FIRST_DEVIATION, 0

    def learn(self, novelty: float) -> None:
        """Feedback came for a prompt as novel as that."""
        self._count = min(self._count + 1, _MEMORY)
        share = 1.0 / self._count
        error = novelty - self._mean
        self._mean += share * error
        if self._count > 1:
            self._deviation += share * (abs(error) - self._deviation)

    def trust(self, novelty: float) -> float:
        """Share in [0,1] of what was learned that counts: all of it within reach, none at a novelty of 1 beyond it."""
        edge = self._mean + _WIDTH * self._deviation
        return 1.0 if novelty <= edge else (1.0 - novelty) / (1.0 - edge)
