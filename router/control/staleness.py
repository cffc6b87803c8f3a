"""How old is what is known of a deployment, and what follows from it?

The rule, in order:

* `fresh`: telemetry is no older than it usually is, or there never was any and nobody is known to share the server, and
  calls under way are heard. What usual age does to predictions their spread has learned, whatever that age is.
* `ledger`: telemetry that showed load of others is older than that. What we sent ourselves still counts, the others'
  load fades, and predictions are held for less sure, the longer the less.
* `conservative`: telemetry has been missing for long, or calls under way are silent for much longer than expected. The
  deployment is also taken for slower than it looks.
* `blind`: calls have been silent for a minute. Where that holds of all that may serve a request, their figures tell
  them apart no more, and the fixed order of the class holds (`core.stability.fixed`).

It is worse at once, and better only after it has been better for a while.
"""

from __future__ import annotations

import math
from enum import StrEnum

_SLACK, _SLACK_S = 2.0, 1.0
"""Times its usual age, and seconds, from which on telemetry is old."""
_LEARNING = 0.1
_MATTERS = 0.5
"""Sequences of others from which on it matters that they are not seen."""
_PER_DOUBLING, _WIDEST = 0.25, 0.75
"""Spread (of the log) added for each doubling of the age, and at most."""
_SHIFT = 0.5
"""Of the added spread, by which a conservative prediction is slower."""
_MISSING_S = 30.0
_SILENT_S, _TIMES_EXPECTED = 5.0, 3.0
_BLIND_S = 60.0
_DWELL_S = 2.0


class Knowledge(StrEnum):
    """How much is known, from most to least."""

    FRESH = "fresh"
    LEDGER = "ledger"
    CONSERVATIVE = "conservative"
    BLIND = "blind"


_ORDER = tuple(Knowledge)


class Staleness:
    """Of one deployment."""

    __slots__ = ("_better_since", "_others", "_peak_s", "_seen_at", "age_s", "known", "usual_s")

    def __init__(self) -> None:
        self.known = Knowledge.FRESH
        self.age_s = 0.0
        self.usual_s: float | None = None
        """Age of telemetry just before the next comes."""
        self._peak_s = 0.0
        self._seen_at = -math.inf
        self._others = 0.0
        self._better_since: float | None = None

    @property
    def reason(self) -> str:
        """Why no more is known."""
        match self.known:
            case Knowledge.FRESH:
                return "news came again"
            case Knowledge.LEDGER:
                return "telemetry is older than it usually is"
            case Knowledge.CONSERVATIVE:
                return "telemetry is missing, or calls are silent for much longer than expected"
            case Knowledge.BLIND:
                return "calls have been silent for a minute"

    @property
    def limit_s(self) -> float:
        """Age from which on telemetry is old."""
        return _SLACK * (self.usual_s or 0.0) + _SLACK_S

    @property
    def wider(self) -> float:
        """Spread to add to that of predictions, as a log."""
        if self.known is Knowledge.FRESH:
            return 0.0
        if self.known is not Knowledge.LEDGER:
            return _WIDEST
        return min(_PER_DOUBLING * math.log2(max(self.age_s / self.limit_s, 1.0)), _WIDEST)

    @property
    def slower(self) -> float:
        """Log of the factor by which predictions are taken to be slower."""
        return _SHIFT * _WIDEST if self.known in (Knowledge.CONSERVATIVE, Knowledge.BLIND) else 0.0

    def look(self, *, now: float, scraped_at: float, others: float, silent_s: float, expected_s: float) -> bool:
        """At a heartbeat: telemetry as of `scraped_at` (minus infinity: never) showed `others`; calls under way have
        been silent for `silent_s` where `expected_s` is usual. True where what is known has changed."""
        self._age(now, scraped_at, others)
        found = max(self._of_telemetry(), _of_silence(silent_s, expected_s), key=_ORDER.index)
        worse = _ORDER.index(found) - _ORDER.index(self.known)
        if worse >= 0:
            self._better_since = None
        elif self._better_since is None:
            self._better_since = now
        if worse == 0 or (self._better_since is not None and now - self._better_since < _DWELL_S):
            return False
        self.known, self._better_since = found, None
        return True

    def _age(self, now: float, scraped_at: float, others: float) -> None:
        if scraped_at != self._seen_at:
            if math.isfinite(self._seen_at):
                usual = self._peak_s if self.usual_s is None else self.usual_s
                self.usual_s = usual + _LEARNING * (self._peak_s - usual)
            self._seen_at, self._others = scraped_at, others
        self.age_s = self._peak_s = now - scraped_at if math.isfinite(scraped_at) else 0.0

    def _of_telemetry(self) -> Knowledge:
        if self._others < _MATTERS or self.age_s <= self.limit_s:
            return Knowledge.FRESH
        return Knowledge.LEDGER if self.age_s <= max(_MISSING_S, 3.0 * self.limit_s) else Knowledge.CONSERVATIVE


def _of_silence(silent_s: float, expected_s: float) -> Knowledge:
    excused_s = _TIMES_EXPECTED * expected_s
    if silent_s > _BLIND_S + excused_s:
        return Knowledge.BLIND
    return Knowledge.CONSERVATIVE if silent_s > _SILENT_S + excused_s else Knowledge.FRESH
