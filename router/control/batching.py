"""How many items go into the next batch, and is it worth waiting for more?

The time of a batch of n is learned as `k * (alpha + beta * n)`. The size is bound late, when the endpoint is free:
the largest n whose oldest item would still be in time. Waiting is only worth it while the oldest item's slack allows
one more item, and never longer than the policy says.
"""

from __future__ import annotations

import math

from router.domain.deployment import BatchProfile
from router.stats.ewma import Ewma
from router.stats.least_squares import ScaledFit

_MULTIPLIER_HALF_LIFE_S = 3.0
_MARGIN_SIGMAS = 2.33
"""Standard normal quantile of .99."""
_LEAST_S = 1e-6
_PRIOR = BatchProfile(base_s=0.05, per_item_s=0.005)


class BatchTuner:
    """Size and wait for one batch endpoint."""

    def __init__(self, prior: BatchProfile | None, *, max_items: int) -> None:
        self._prior = prior or _PRIOR
        self.max_items = max_items
        self._fit = ScaledFit(2, prior_weight=20.0, decay=0.998, low=0.05, high=20.0)
        self._log_k = Ewma(_MULTIPLIER_HALF_LIFE_S, mean=0.0, variance=0.01, weight=2.0)

    def expected_s(self, items: int) -> float:
        """Median seconds of a batch of `items`."""
        theta = self._fit.theta
        base, each = self._prior.base_s * theta[0], self._prior.per_item_s * theta[1]
        return max(float(math.exp(self._log_k.mean) * (base + each * items)), _LEAST_S)

    def upper_s(self, items: int) -> float:
        """Seconds that 99 % of such batches stay under."""
        return self.expected_s(items) * math.exp(_MARGIN_SIGMAS * math.sqrt(self._log_k.variance))

    def observe(self, items: int, seconds: float, *, now: float) -> None:
        """A batch of `items` took this long."""
        theta = self._fit.theta
        seconds = max(seconds, _LEAST_S)
        shape = max(self._prior.base_s * theta[0] + self._prior.per_item_s * theta[1] * items, _LEAST_S)
        self._log_k.update(max(-2.5, min(2.5, math.log(seconds / shape))), now=now)
        self._fit.add((self._prior.base_s, self._prior.per_item_s * items), seconds * math.exp(-self._log_k.mean))
        if self._fit.samples % 16 == 0:
            self._fit.solve()

    def observe_unfinished(self, items: int, seconds: float, *, now: float) -> None:
        """A batch of `items` was given up after this long: it takes at least that."""
        if seconds > self.expected_s(items):
            self.observe(items, seconds, now=now)

    def size(self, waiting: int, slack_s: float | None) -> int:
        """Items to take now: all that still lets the oldest, with `slack_s` left, be in time; at least one.

        Where no size can save the oldest, as many as there are: a batch under the stability batch of the arrival rate
        would make all who come later late too.
        """
        most = min(waiting, self.max_items)
        if slack_s is None or self.upper_s(1) > slack_s:
            return most
        while most > 1 and self.upper_s(most) > slack_s:
            most -= 1
        return max(most, 1)

    def wait_s(self, waiting: int, slack_s: float | None, allowed_s: float) -> float:
        """Seconds to wait for one more item before starting; 0 to start now."""
        if waiting >= self.max_items or allowed_s <= 0.0:
            return 0.0
        if slack_s is None:
            return allowed_s
        return max(0.0, min(allowed_s, slack_s - self.upper_s(waiting + 1)))
