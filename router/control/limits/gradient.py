"""The limit follows the ratio of the pace that is allowed to the pace that is.

The idea is that of the gradient limits of Netflix' concurrency-limits and of Envoy's adaptive concurrency. Their known
failures are avoided: the pace is that of tokens, not of whole calls, which differ by the length of answers; the
reference is the objective, or without one a multiple of the least pace of the last ten minutes in which there was room,
which neither drifts up with the load as a long average does nor needs times of measuring in which calls are refused; at
equilibrium nothing is added, so it does not climb for ever; what is not used does not grow; and a call that times out
has no pace.
"""

from __future__ import annotations

import math

from router.control.limits.protocol import Sight
from router.control.limits.response import EXERCISED
from router.control.limits.stand import Stand
from router.control.limits.steered import Steered
from router.domain.deployment import LimitKind
from router.stats.least import Least

_TOLERANCE = 2.0
"""Times the least pace that calls may take, where nothing is promised of it."""
_RAISED = 0.25
"""Part of the way that is taken upwards at once."""
_FASTEST = 0.12
"""Most that it grows by at once, as a part of itself."""


class GradientLimit(Steered):
    """As much less as the pace is off, or a quarter as much more."""

    kind = LimitKind.GRADIENT

    def __init__(self, stand: Stand) -> None:
        super().__init__(stand)
        self._least = Least()
        self._idle_s = 0.0
        self._seen: float | None = None

    def _allowed_s(self, sight: Sight) -> float | None:
        short, now = self.observed.pace.short, sight.now
        if self._seen is not None and sight.used < EXERCISED * self.value:
            self._idle_s += now - self._seen
        self._seen = now
        if short is not None:
            self._least.see(short.mean, now=self._idle_s)
        if sight.tpot_s is not None:
            return sight.tpot_s
        return None if math.isinf(self._least.value) else _TOLERANCE * self._least.value

    def _kept(self, excess: float) -> float:
        return 1.0 / excess

    def _more(self, nearness: float) -> float:
        growth = _FASTEST if nearness <= 0.0 else min(_RAISED * (1.0 / nearness - 1.0), _FASTEST)
        return growth * self.value
