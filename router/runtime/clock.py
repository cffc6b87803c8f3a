"""The real clock."""

from __future__ import annotations

import time


class RealClock:
    """`time.monotonic` and `time.time`; an event loop's own time may be cached or coarse."""

    now = staticmethod(time.monotonic)
    at = staticmethod(time.time)
    stopwatch = staticmethod(time.perf_counter)
