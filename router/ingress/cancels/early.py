"""Cancels that no open request answers to: a broker does not order them with the requests they are about."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

REMEMBER_S = 600.0
"""How long a cancel waits for its request: as long as one may lie at a broker while routers have no room."""
REMEMBER_MAX = 16_384
"""Most that wait; the oldest goes first. An id and its tenant have 512 characters at most."""


class EarlyCancels:
    """Keys of requests that have yet to come, if they do. `now` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[str, float] = {}

    def remember(self, key: str) -> None:
        """Keep a key for a while."""
        now = self._now()
        self._until.pop(key, None)
        self._until[key] = now + REMEMBER_S
        while len(self._until) > REMEMBER_MAX or next(iter(self._until.values())) < now:
            del self._until[next(iter(self._until))]

    def take(self, key: str) -> bool:
        """Whether a key is kept; it is forgotten by that."""
        return bool(self._until) and self._until.pop(key, -inf) >= self._now()
