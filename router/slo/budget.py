"""How fast is the error budget burning?

Good and all requests in buckets of ten seconds over an hour. Burn rate = share of bad / (1 - target): at 1 the budget
lasts exactly its window.
"""

from __future__ import annotations

from collections import deque

_BUCKET_S = 10.0
_KEEP_S = 3600.0


class ErrorBudget:
    """Good and total counts of one objective, recent and since the start."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.good = 0
        self.total = 0
        self._buckets: deque[list[float]] = deque()

    def add(self, met: bool, *, now: float) -> None:
        """Judge one request."""
        self.good += met
        self.total += 1
        if not self._buckets or now - self._buckets[-1][0] >= _BUCKET_S:
            self._buckets.append([now, 0, 0])
            while now - self._buckets[0][0] > _KEEP_S:
                self._buckets.popleft()
        bucket = self._buckets[-1]
        bucket[1] += met
        bucket[2] += 1

    def burn_rate(self, window_s: float, *, now: float) -> float:
        """Burn rate over the last `window_s`, 0 with nothing to judge."""
        good = total = 0.0
        for start, bucket_good, bucket_total in reversed(self._buckets):
            if now - start > window_s:
                break
            good += bucket_good
            total += bucket_total
        if not total:
            return 0.0
        return (1.0 - good / total) / max(1.0 - self.target, 1e-9)
