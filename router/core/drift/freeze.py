"""A source of feedback whose yardstick moved: nobody learns from it until it is known whether it stays."""

from __future__ import annotations

_LONGEST_S = 1800.0
_MOST_ANSWERS = 200
_STILL_OFF = 0.25
"""Mean error in standard deviations from which on the new level is there to stay."""
_LEAST_ANSWERS = 20


class Freeze:
    """From now on, for so many answers or so long. `flatters`: it told more than was predicted when it began."""

    __slots__ = ("_answers", "_predicted", "_sum", "_told", "_until", "flatters")

    def __init__(self, now: float, *, flatters: bool = False) -> None:
        self._until, self._answers = now + _LONGEST_S, 0
        self.flatters = flatters
        self._sum = self._predicted = self._told = 0.0

    def add(self, predicted: float, told: float, error: float) -> None:
        """An answer that nobody learns from, with its error in standard deviations."""
        self._answers += 1
        self._predicted += predicted
        self._told += told
        self._sum += error

    def levels(self) -> tuple[float, float]:
        """Means of what was predicted and told meanwhile; 0 where nothing was."""
        answers = max(self._answers, 1)
        return self._predicted / answers, self._told / answers

    def is_over(self, now: float) -> bool:
        """Whether it has gone on for long enough."""
        return self._answers >= _MOST_ANSWERS or now >= self._until

    def is_still_off(self) -> bool:
        """Whether what was told meanwhile is as far off as it was. What too few tell is not known."""
        return self._answers >= _LEAST_ANSWERS and abs(self._sum / self._answers) > _STILL_OFF
