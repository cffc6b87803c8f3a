"""What is it worth to refuse, where quality is not to be had?

A floor that is kept by refusing holds whatever the fleet can answer: of requests that nobody could answer as well as
the mean must be, only the likeliest to be adequate are served. What that adds to the price of the floor is s / (1 - s),
so that s moves the P(adequate) from which on a request is served, and not some price that has no end:

    s <- clip(s + STEP * (target - q), 0, MOST)

with each answer of adequacy q, until s is back at 0. It begins where the target is out of reach and what was served
better than promised is used up: a mean is promised, and a deployment that restarts should turn nobody away. It is fast
where the floor price is slow: that one finds a mean over an hour, this one a deployment that is down for a minute, and
leaves no price behind when it is back.
"""

from __future__ import annotations

STEP = 0.25
SAVED_MOST = 50.0
"""Answers' worth: as much as may be owed of verdicts."""
_MOST = 0.98


class RefusalPrice:
    """What is added to the floor price of a class whose requests may be refused to keep its floor."""

    __slots__ = ("_saved", "_share")

    def __init__(self) -> None:
        self._share = self._saved = 0.0

    @property
    def value(self) -> float:
        """Per unit of adequacy above the floor."""
        return self._share / (1.0 - self._share)

    def move(self, deficit: float, *, out_of_reach: bool) -> None:
        """An answer missed the target by `deficit`; no better one was to be had where that was `out_of_reach`."""
        if self._share or (out_of_reach and self._saved <= 0.0):
            self._share = min(max(self._share + STEP * deficit, 0.0), _MOST)
        else:
            self._saved = min(max(self._saved - deficit, 0.0), SAVED_MOST)
