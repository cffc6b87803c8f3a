"""How many replicas does a load that changes ask for, without ever flapping?

Given the offered work in replicas (a real number) now and then:

* by what is offered over the last half minute where that is surely not what was offered in the last minutes, else by
  the latter, which is less noisy;
* up at once;
* down only where fewer would have done at every moment of the last `_STAY_S`;
* neither within a tenth of a replica of where it would turn.

So within `_STAY_S` of a raise there is no fall, and a load around the edge of two numbers costs at most one replica,
not a flip. Kubernetes' own autoscaler has a like rule for going down (its stabilization window) and tolerance.
"""

from __future__ import annotations

from collections import deque
from math import ceil, exp, sqrt

_FAST_S, _SLOW_S = 30.0, 90.0
_SURE = 3.0
_STAY_S = 300.0
_EDGE = 0.1
_SETTLED_S = 30.0
"""Nothing is said of a load that was watched for less."""


class Offered:
    """Work a second, over two memories. The short one counts where it is far from the long one: more than `_SURE`
    standard deviations of what comes one by one at this rate, in sizes as various as exponential ones."""

    __slots__ = ("_began", "_count", "_fast", "_last", "_slow")

    def __init__(self) -> None:
        self._began: float | None = None
        self._last = 0.0
        self._fast = self._slow = self._count = 0.0

    def add(self, amount: float, *, now: float) -> None:
        """Work that was offered."""
        if self._began is None:
            self._began = self._last = now
        else:
            self._decay(now)
        self._fast += amount / _FAST_S
        self._count += 1.0
        self._slow += amount / _SLOW_S

    def _decay(self, now: float) -> None:
        passed = now - self._last
        kept = exp(-passed / _FAST_S)
        self._fast *= kept
        self._count *= kept
        self._slow *= exp(-passed / _SLOW_S)
        self._last = now

    def at(self, now: float) -> float | None:
        """Per second; `None` while too little was seen."""
        if self._began is None or now - self._began < _SETTLED_S:
            return None
        self._decay(now)
        far = _SURE * sqrt(1.0 / max(self._count, 1.0)) * self._slow
        return self._fast if abs(self._fast - self._slow) > far else self._slow


class Replicas:
    """The wanted number of one group."""

    def __init__(self, value: int) -> None:
        self.value = value
        self._lately: deque[tuple[float, int]] = deque()
        """The numbers that would have done, later ones only where they are lower: a monotonic queue."""
        self._watched_since: float | None = None

    def update(self, offered: float, *, now: float) -> int:
        """The number for this much offered work, in replicas; never less than one."""
        if self._watched_since is None:
            self._watched_since = now
        while self._lately and self._lately[0][0] <= now - _STAY_S:
            self._lately.popleft()
        would_do = max(ceil(offered + _EDGE), 1)
        while self._lately and self._lately[-1][1] <= would_do:
            self._lately.pop()
        self._lately.append((now, would_do))
        least = max(ceil(offered - _EDGE), 1)
        if least > self.value:
            self.value = least
        elif now - self._watched_since >= _STAY_S:
            self.value = min(self.value, self._lately[0][1])
        return self.value
