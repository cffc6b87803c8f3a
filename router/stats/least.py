"""The least of a figure over the last ten minutes, in steps of one minute."""

from __future__ import annotations

import math
from collections import deque

_STEP_S = 60.0
_STEPS = 10


class Least:
    """A windowed minimum: what was low long ago is forgotten, what is high for long does not drift in slowly."""

    __slots__ = ("_steps", "_until")

    def __init__(self) -> None:
        self._steps: deque[float] = deque([math.inf], maxlen=_STEPS)
        self._until: float | None = None

    @property
    def value(self) -> float:
        """The least seen; infinite before anything was."""
        return min(self._steps)

    def see(self, value: float, *, now: float) -> None:
        """Take one figure."""
        if self._until is None or now - self._until >= _STEP_S * _STEPS:
            self._steps.clear()
            self._steps.append(math.inf)
            self._until = now + _STEP_S
        while now >= self._until:
            self._steps.append(math.inf)
            self._until += _STEP_S
        self._steps[-1] = min(self._steps[-1], value)
