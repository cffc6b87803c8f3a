"""How long does a cheap lane keep a call before it begins?

Flexible service tiers run a call when the provider has capacity to spare: the wait is theirs, has nothing to do with
what we sent, and varies by orders of magnitude. So it is learned apart from the latency model, which it is added to: an
average of the log of what was waited. Its spread is that of the model's residuals. A call that still waits is no blank:
where it has waited for much longer than usual, the usual is not believed until it has begun or is gone.
"""

from __future__ import annotations

import math

from router.stats.ewma import Ewma

_HALF_LIFE_S = 600.0
_PRIOR_S = 10.0
PRIOR_SIGMA = 1.0
"""Spread of the log of a first token's time before anything is known of a lane that waits."""
_BELIEVED = 3.0
_LEAST_S, _MOST_S = 0.01, 7 * 86400.0


class LaneWait:
    """The wait of one deployment."""

    __slots__ = ("_log", "typical_s")

    def __init__(self) -> None:
        self._log = Ewma(_HALF_LIFE_S, mean=math.log(_PRIOR_S), variance=PRIOR_SIGMA**2, weight=2.0)
        self.typical_s = _PRIOR_S
        """Median."""

    def observe(self, waited_s: float, *, now: float) -> None:
        """A call began after waiting this long."""
        self._log.update(math.log(min(max(waited_s, _LEAST_S), _MOST_S)), now=now)
        self.typical_s = math.exp(self._log.mean)

    def observe_waiting(self, waited_s: float) -> None:
        """The call that has waited longest of those that have not begun has waited this long (0 for none). A median of
        less than a third of it is not believed for as long as it waits."""
        self.typical_s = max(math.exp(self._log.mean), waited_s / _BELIEVED)
