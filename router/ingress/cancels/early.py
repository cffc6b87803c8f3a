"""Cancels that no open request answers to: a broker does not order them with the requests they are about."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

EARLY, UNKNOWN = "cancel_early", "cancel_unknown"
"""What a cancel is that finds nothing to take back: while its request may yet come, and when it is given up. One that
is early is `cancelled` or unknown in the end: those two count each cancel once."""
REMEMBER_S = 600.0
"""How long a cancel waits for its request: as long as one may lie at a broker while routers have no room."""
REMEMBER_MAX = 16_384
"""Most that wait; the oldest goes first. An id and its tenant have 512 characters at most."""


class EarlyCancels:
    """Keys of requests that have yet to come, if they do. `now` is monotonic seconds; `give_up` is called for each
    whose request did not."""

    def __init__(self, now: Callable[[], float], give_up: Callable[[], None]) -> None:
        self._now, self._give_up = now, give_up
        self._until: OrderedDict[str, float] = OrderedDict()

    def remember(self, key: str) -> None:
        """Keep a key for a while. One that was kept is given up for it: each cancel ends once."""
        if self._until.pop(key, None) is not None:
            self._give_up()
        self._until[key] = self._now() + REMEMBER_S
        self.forget_old()

    def forget_old(self) -> float | None:
        """Give up those that waited long enough, and those there is no room for; seconds until the next has, `None`
        where none waits."""
        now = self._now()
        while self._until:
            left_s = next(iter(self._until.values())) - now
            if left_s >= 0.0 and len(self._until) <= REMEMBER_MAX:
                return left_s
            self._until.popitem(last=False)
            self._give_up()
        return None

    def take(self, key: str) -> bool:
        """Whether a key is kept; it is forgotten by that."""
        if not self._until:
            return False
        self.forget_old()
        return self._until.pop(key, None) is not None
