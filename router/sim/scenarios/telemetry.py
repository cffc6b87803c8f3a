"""Telemetry that grows old while a simulation runs."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from router.ports.load import ScrapedLoad


class Delayed:
    """Holds back what servers tell of themselves. `lags` are (from second, age in seconds), in order."""

    def __init__(self, lags: Sequence[tuple[float, float]], origin_s: float) -> None:
        self._lags, self._origin_s = lags, origin_s
        self._held: deque[tuple[float, tuple[ScrapedLoad, ...]]] = deque()

    def through(self, loads: tuple[ScrapedLoad, ...], now: float) -> tuple[ScrapedLoad, ...]:
        """Take what was told just now and give the newest that is old enough; nothing where all is too young."""
        if not self._lags:
            return loads
        self._held.append((now, loads))
        index = bisect_right(self._lags, now - self._origin_s, key=lambda lag: lag[0]) - 1
        until = now - (self._lags[index][1] if index >= 0 else 0.0)
        oldest = max(lag for _, lag in self._lags)
        while self._held[0][0] < now - oldest - 1.0:
            self._held.popleft()
        return next((told for at, told in reversed(self._held) if at <= until), ())
