"""How long does a batch of n items take?

`h(n) = k * (alpha + beta * n)`. The shape (alpha, beta) is fitted slowly around a prior that it never leaves for good:
a stretch of equal batches tells nothing of what other sizes take, and a fit that forgot the rest would believe that it
does. The multiplier `k` follows slowdowns: by a short average, and at once where two batches in a row are off to the
same side by more than residuals explain. The quantile is that of the residuals themselves, one step ahead.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from statistics import NormalDist

from router.domain.deployment import BatchProfile
from router.stats.ewma import Ewma
from router.stats.least_squares import ScaledFit

_MULTIPLIER_HALF_LIFE_S = 3.0
_FARTHEST_LOG = 2.5
"""One batch is never taken to be further off than this factor of e, either way."""
_REFIT_EVERY = 16
_RESIDUALS = 200
_QUANTILE = 0.99
_RANK = math.ceil(_QUANTILE * _RESIDUALS) - 1
_PRIOR_SIGMA = 0.1
"""Spread of the log of observed over expected before anything was observed; real residuals push it out one by one."""
_LEAST_MARGIN, _MOST_MARGIN = 0.01, 1.0
"""Bounds of the log of the 99 % quantile over the median. What is rarer and longer is a stall, which no smaller batch
avoids."""
_JUMP_SIGMAS, _LEAST_JUMP = 4.0, 0.1
_SILENCE_S = 2.0
_RELAX_HALF_LIFE_S = 10.0
_LEAST_S = 1e-6
_PRIOR = BatchProfile(base_s=0.05, per_item_s=0.005)
_FRESH = NormalDist(0.0, _PRIOR_SIGMA).quantiles(_RESIDUALS + 1)


class BatchCurve:
    """Seconds of a batch by its size, for one endpoint."""

    def __init__(self, prior: BatchProfile | None) -> None:
        self._prior = prior or _PRIOR
        self._fit = ScaledFit(2, prior_weight=20.0, decay=0.998, low=0.05, high=20.0)
        self._log_k = Ewma(_MULTIPLIER_HALF_LIFE_S, mean=0.0, weight=2.0)
        self._base_s, self._each_s = self._prior.base_s, self._prior.per_item_s
        self._recent, self._sorted = deque(reversed(_FRESH)), list(_FRESH)
        self._off: tuple[float, float] | None = None
        """The last residual and the multiplier that it speaks for (its log), where residuals do not explain it."""
        self._relaxed = 0.0
        self.last_observed: float | None = None
        self._set_scale()

    def expected_s(self, items: float) -> float:
        """Median seconds of a batch of `items`."""
        return max(self.alpha_s + self.beta_s * items, _LEAST_S)

    def upper_s(self, items: float) -> float:
        """Seconds that 99 % of such batches stay under."""
        return self.expected_s(items) * self.margin

    def most(self, seconds: float, *, margin: float) -> float:
        """Largest batch, not rounded, whose median times `margin` is within these seconds; below 1 where none is."""
        left = seconds / margin - self.alpha_s
        if self.beta_s <= 0.0:
            return math.inf if left >= 0.0 else 0.0
        return left / self.beta_s

    def observe(self, items: int, seconds: float, *, now: float) -> None:
        """A batch of `items` took this long."""
        seconds = max(seconds, _LEAST_S)
        residual = _bounded(math.log(seconds / self.expected_s(items)))
        shape = max(self._base_s + self._each_s * items, _LEAST_S)
        self._log_k.update(_bounded(math.log(seconds / shape)), now=now)
        self._follow(residual)
        self.last_observed = now
        self._fit.add((self._prior.base_s, self._prior.per_item_s * items), seconds * math.exp(-self._log_k.mean))
        if self._fit.samples % _REFIT_EVERY == 0:
            base, each = self._fit.solve().tolist()
            self._base_s, self._each_s = self._prior.base_s * base, self._prior.per_item_s * each
        self._set_scale()

    def _follow(self, residual: float) -> None:
        """Keep the residual. A second one in a row that is off to the same side is a change of pace: the multiplier
        moves to where both say it is, and neither counts as spread."""
        off, self._off = self._off, None
        if abs(residual) > max(_JUMP_SIGMAS * self._sigma(), _LEAST_JUMP):
            said = math.log(self.k) + residual
            if off is not None and off[0] * residual > 0.0:
                self._log_k.mean = _bounded(0.5 * (off[1] + said))
                return
            self._off = residual, said
        else:
            self._keep(residual)
        if off is not None:
            self._keep(off[0])

    def _keep(self, residual: float) -> None:
        insort(self._sorted, residual)
        self._recent.append(residual)
        del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def _sigma(self) -> float:
        """Spread of the residuals by their quartiles, which a stall does not move."""
        quarter = _RESIDUALS // 4
        return (self._sorted[3 * quarter] - self._sorted[quarter]) / 1.349

    def relax(self, *, now: float) -> None:
        """Called at every heartbeat: where nothing is observed the momentary slowness is slowly forgotten, so that an
        endpoint that traffic has left is tried again."""
        last = self.last_observed
        if last is None or now - last < _SILENCE_S:
            self._relaxed = now
            return
        self._log_k.mean *= 0.5 ** ((now - max(self._relaxed, last)) / _RELAX_HALF_LIFE_S)
        self._relaxed = now
        self._set_scale()

    def is_unheard(self, now: float) -> bool:
        """Whether nothing was observed for so long that a batch is worth running for what it tells."""
        return self.last_observed is None or now - self.last_observed > _SILENCE_S

    def _set_scale(self) -> None:
        self.k = math.exp(self._log_k.mean)
        self.alpha_s, self.beta_s = self.k * self._base_s, self.k * self._each_s
        self.margin = math.exp(min(max(self._sorted[_RANK], _LEAST_MARGIN), _MOST_MARGIN))


def _bounded(log: float) -> float:
    return max(-_FARTHEST_LOG, min(_FARTHEST_LOG, log))
