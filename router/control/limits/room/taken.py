"""Is a call refused for the number of others beside it?

What a deployment has lately taken beside as many is not: an account out of tokens a minute, or a gateway that refuses
now and then, is no reason to send less at once. Such a refusal keeps calls away for as long as it says, and no more; a
bound on calls that has come down is met again and again, each time for that long, until what was taken before it is
long ago.
"""

from __future__ import annotations

_HALF_LIFE_S = 300.0


class Taken:
    """The most calls, and the most tokens, that one deployment has lately taken a call beside; less and less is left of
    what was long ago."""

    __slots__ = ("_at", "_calls", "_tokens")

    def __init__(self) -> None:
        self._calls = self._tokens = -1.0
        self._at = 0.0

    def observe(self, calls: int, tokens: float, *, now: float) -> None:
        """A call has begun to answer that was sent beside so many others and their tokens."""
        most_calls, most_tokens = self.beside(now=now)
        self._calls, self._tokens, self._at = max(calls, most_calls), max(tokens, most_tokens), now

    def beside(self, *, now: float) -> tuple[float, float]:
        """Calls, and tokens; under 0 where nothing was ever taken."""
        left = 0.5 ** ((now - self._at) / _HALF_LIFE_S)
        return left * self._calls, left * self._tokens
