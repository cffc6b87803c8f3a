"""How fast is an error budget being spent?

The error budget of an objective is the share `1 - target` of its requests that may be bad. A burn rate of 1 spends it
exactly over the objective's window; 14.4 spends 2 % of a 30-day budget in one hour (Google's SRE workbook, chapter 5,
where the pairs of a long and a short window come from: the long one says that it matters, the short one that it goes
on).
"""

from __future__ import annotations

from collections import deque

_BUCKETS = 60
"""Buckets in the shortest window: the age of what is counted is off by at most one part in so many."""


class BurnMeter:
    """Good and bad requests over the last `longest_s` seconds; windows of any length up to that can be asked for."""

    def __init__(self, target: float, *, shortest_s: float, longest_s: float) -> None:
        self.target = target
        self._width_s = shortest_s / _BUCKETS
        self._kept = int(longest_s / self._width_s) + 1
        self._buckets: deque[list[float]] = deque()
        self.bad = self.total = 0
        """Since the beginning."""

    def record(self, good: bool, *, now: float) -> None:
        """One request ended."""
        number = now // self._width_s
        buckets = self._buckets
        if not buckets or buckets[-1][0] != number:
            buckets.append([number, 0.0, 0.0])
            while buckets[0][0] <= number - self._kept:
                buckets.popleft()
        buckets[-1][1] += not good
        buckets[-1][2] += 1
        self.bad += not good
        self.total += 1

    def counts(self, window_s: float, *, now: float) -> tuple[int, int]:
        """Bad requests and all of them in the last `window_s`."""
        oldest = (now - window_s) // self._width_s
        bad = total = 0.0
        for number, some_bad, some in reversed(self._buckets):
            if number <= oldest:
                break
            bad += some_bad
            total += some
        return int(bad), int(total)

    def rate(self, window_s: float, *, now: float) -> float:
        """Burn rate over a window; 0 where nothing ended."""
        bad, total = self.counts(window_s, now=now)
        return bad / total / (1.0 - self.target) if total else 0.0
