"""What will a call to a model cost?

Log-linear in the request's tokens, around what was known before (a fitted forecast, or nothing): the log of observed
over forecast is followed by recursive least squares, and the mean of what the log misses by a running ratio, so that
the forecast is right on average and not only in the middle. A price that jumps is told by a cumulative sum of the
errors (Page, Biometrika 1954), and relearned within some calls.
"""

from __future__ import annotations

import math

_TOKENS = 150.0
"""Where the slope turns, in tokens."""
_KNOWN, _UNKNOWN = (0.04, 0.01), (25.0, 0.25)
"""Prior variances of offset and slope where there is a forecast, and where there is none."""
_DRIFT = (2e-4, 2e-5)
_SPREAD = 0.25
_MEMORY = 100.0
_PRIOR_WEIGHT = 10.0
_SLACK, _ALARM, _LARGEST = 0.5, 10.0, 3.0
_FARTHEST = 5.0
_LEAST_USD = 1e-9


class CostModel:
    """Cost of one model's calls in USD."""

    __slots__ = ("_down", "_m", "_prior", "_ratio", "_seen", "_up", "_v", "spread")

    def __init__(self, *, has_forecast: bool) -> None:
        """`has_forecast` tells whether calls come with one."""
        self._prior = _KNOWN if has_forecast else _UNKNOWN
        self._m = [0.0, 0.0]
        self._v = [self._prior[0], 0.0, self._prior[1]]
        self.spread = _SPREAD
        self._ratio = math.exp(0.5 * _SPREAD)
        self._seen = 0
        self._up = self._down = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is any ground for a forecast."""
        return self._seen > 0 or self._prior is _KNOWN

    def expect(self, tokens: int, forecast: float = 0.0) -> float:
        """Mean cost of a call, given the log of what it was forecast to cost."""
        return math.exp(forecast + self._m[0] + self._m[1] * _slope(tokens)) * self._ratio

    def observe(self, tokens: int, cost_usd: float, forecast: float = 0.0) -> bool:
        """What a call cost; true where that showed that prices have jumped."""
        x = _slope(tokens)
        predicted = forecast + self._m[0] + self._m[1] * x
        error = math.log(max(cost_usd, _LEAST_USD)) - predicted
        v = self._v
        v[0], v[2] = min(v[0] + _DRIFT[0], self._prior[0]), min(v[2] + _DRIFT[1], self._prior[1])
        g0, g1 = v[0] + v[1] * x, v[1] + v[2] * x
        whole = self.spread + g0 + g1 * x
        self._m[0] += g0 / whole * error
        self._m[1] += g1 / whole * error
        v[0] -= g0 * g0 / whole
        v[1] -= g0 * g1 / whole
        v[2] -= g1 * g1 / whole
        standard = min(max(error / math.sqrt(whole), -_LARGEST), _LARGEST)
        self._seen += 1
        if whole < _FARTHEST:
            share = 1.0 / min(self._seen + _PRIOR_WEIGHT, _MEMORY)
            self.spread += share * (min(error * error, 1.0) - self.spread)
            self._ratio += share * (min(math.exp(min(error, _LARGEST)), _FARTHEST) - self._ratio)
        self._up = max(self._up + standard - _SLACK, 0.0)
        self._down = max(self._down - standard - _SLACK, 0.0)
        if max(self._up, self._down) < _ALARM:
            return False
        self._up = self._down = 0.0
        self._v = [_UNKNOWN[0], 0.0, self._prior[1]]
        return True


def _slope(tokens: int) -> float:
    return math.log((tokens + 1.0) / _TOKENS)
