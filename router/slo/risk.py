"""Can the floor of a class be trusted to hold, and if not, why?

Four levels, each a mean over the last answers, are watched with a threshold to begin and a lower one to end, so that
none of them flaps:

* `price_at_bound`: the price can rise no further, and too little is served well: there is not enough to buy;
* `feedback`: verdicts say that less is adequate than was expected, by so much that the floor is missed (in standard
  errors of the correction);
* `fallen`: a model that could serve answers worse than it did;
* `novel`: prompts are unlike those that the estimator was fitted on.
"""

from __future__ import annotations

import math

_MEMORY = 200
"""Answers, and verdicts."""
_HEARD = 30
"""Verdicts before anything is concluded from them."""
_LEVELS = (("price_at_bound", 0.5, 0.2), ("feedback", 2.0, 0.5), ("fallen", 0.2, 0.05), ("novel", 0.2, 0.1))
"""Reason, the level at which it is told, and the level under which it is over; the first that is told counts."""


class FloorRisk:
    """What was served of one class of late, as it was expected, as it was counted, and as verdicts say it was."""

    def __init__(self) -> None:
        self._answers = self._verdicts = 0
        self.expected = self.counted = 0.0
        """Mean P(adequate) of what was chosen, and the mean of what the floor counted: lower where that is doubted."""
        self._bias = self._square = 0.0
        self._shares = {"price_at_bound": 0.0, "fallen": 0.0, "novel": 0.0}
        self._on: set[str] = set()

    def on_served(self, p: float, counted: float, *, at_bound: bool, fallen: bool, novel: bool) -> None:
        """An answer was chosen."""
        if self._answers < _MEMORY:
            self._answers += 1
        share = 1.0 / self._answers
        self.expected += share * (p - self.expected)
        self.counted += share * (counted - self.counted)
        shares = self._shares
        shares["price_at_bound"] += share * (at_bound - shares["price_at_bound"])
        shares["fallen"] += share * (fallen - shares["fallen"])
        shares["novel"] += share * (novel - shares["novel"])

    def on_verdict(self, error: float) -> None:
        """An answer that was counted turned out so much less adequate than it was counted."""
        self._verdicts = min(self._verdicts + 1, _MEMORY)
        share = 1.0 / self._verdicts
        self._bias += share * (error - self._bias)
        self._square += share * (error * error - self._square)

    @property
    def corrected(self) -> float | None:
        """Mean adequacy as verdicts have it; `None` where there are too few."""
        return None if self._verdicts < _HEARD else min(max(self.counted - self._bias, 0.0), 1.0)

    def reason(self, ratio: float) -> str:
        """Why a floor of this ratio is at risk; empty where it is not."""
        if self._answers < _HEARD:
            return ""
        levels = self._shares | {"feedback": self._missed(ratio)}
        if self.counted >= ratio:
            levels["price_at_bound"] = 0.0
        for name, on, off in _LEVELS:
            if levels[name] >= on:
                self._on.add(name)
            elif levels[name] < off:
                self._on.discard(name)
        return next((name for name, _, _ in _LEVELS if name in self._on), "")

    def _missed(self, ratio: float) -> float:
        corrected = self.corrected
        if corrected is None:
            return 0.0
        error = math.sqrt(max(self._square - self._bias**2, 1e-6) / self._verdicts)
        return (ratio - corrected) / error
