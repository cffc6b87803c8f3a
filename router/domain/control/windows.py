"""What became of a window of requests that were decided together."""

from __future__ import annotations

from router.domain.events import Event


class WindowClosed(Event, frozen=True):
    """So many requests were decided together, and so many were left for a later window because they have time."""

    decided: int
    kept: int
