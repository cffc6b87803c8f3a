"""What time is it?"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Monotonic and wall seconds: the real clock in the daemon, the virtual one in the simulator."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def at(self) -> float:
        """Wall seconds since the epoch."""
        ...

    def stopwatch(self) -> float:
        """Seconds for timing our own work; real even where `now` is virtual."""
        ...
