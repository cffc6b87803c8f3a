"""What a deployment has said is too much, and how carefully that is tried again.

A refusal (429 or 503) with n calls in flight puts a ceiling just under n. While the ceiling is reached it rises as
CUBIC's window does past the size at which it last lost (RFC 9438): hardly at first, faster the longer nothing is
refused. So a true ceiling is touched seldom, and one that a passing trouble left behind is gone in about a minute.
"""

from __future__ import annotations

import math

_UNDER = 0.9
_REACHED = 0.8
_SCALE_S = 20.0
"""Seconds at the ceiling until it is a tenth higher."""
_UNWATCHED_S = 5.0
"""What was not looked at for so long, as limits are not while they are held, was not known to be at its ceiling."""
_EPISODE_S = 30.0
"""Refusals in this time may halve the ceiling and no more: what goes on being refused at half of what was taken before
is not refused for its number."""


class Ceiling:
    """The most that is tried, in calls or in tokens; infinite until something was refused."""

    __slots__ = ("_at", "_beaten", "_began", "_first", "_tried_s", "value")

    def __init__(self) -> None:
        self._at = math.inf
        self._first = math.inf
        self._began = -math.inf
        self._tried_s = 0.0
        self._beaten: float | None = None
        self.value = math.inf
        """As of the last heartbeat or refusal."""

    def on_refused(self, used: float, *, now: float) -> None:
        """More than `used` was too much."""
        if now - self._began > _EPISODE_S:
            self._began, self._first = now, min(used, self.value)
        self._at = max(min(_UNDER * used, self._at), 0.5 * self._first)
        self._tried_s = 0.0
        self._rise()

    def on_full(self, held: float) -> None:
        """It was seen to hold `held`, and no more."""
        self._at, self._tried_s = held, 0.0
        self._rise()

    def beat(self, used: float, *, now: float) -> None:
        """Time spent at the ceiling without a refusal lifts it."""
        since_s = 0.0 if self._beaten is None else now - self._beaten
        if self._at < math.inf and since_s <= _UNWATCHED_S and used >= _REACHED * self.value:
            self._tried_s += since_s
            self._rise()
        self._beaten = now

    def _rise(self) -> None:
        self.value = self._at + max(0.1 * self._at, 1.0) * (self._tried_s / _SCALE_S) ** 3
