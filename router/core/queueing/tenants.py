"""Who asks for more than its share of a fleet that cannot serve everybody?

Servers queue inside, where the router cannot reorder: what it can do is not to send. While requests are refused for
want of capacity, tenants share what is served by max-min fairness on expected server seconds: with the demand d and the
weight w of each, the level L solves sum(min(d, w L)) = what is served. Who asks for less than w L is within its share
and is relieved of the capacity price, the more the further it is below and the more is refused; who asks for more pays
the whole price, so that the price rises until they, and not the others, are refused as much as it takes; and they find
no room in the last tenth of a concurrency limit, which is free when one of the others comes. Without refusals, or with
one tenant alone, the same holds for everybody, as if there were no tenants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from heapq import nlargest

from router.domain.events import Event, PriceUpdate

_MEMORY_S = 10.0
_WHOLE_REFUSED = 0.01
"""Share of the asked-for work that is refused from which on relief is whole."""
_LEAST_REFUSED = 0.001
_CAUTION = 0.12
"""Headroom kept for those within their share while others are refused: so much more does pressure count. Without it
they are served, but as late as the price lets a fleet become that is full of others."""
_KEPT = 0.1
"""Share of a concurrency limit that is kept from those over their share."""
_FORGOTTEN = 1e-6
_MOST = 1000
"""Tenants that are told apart; with more, those who ask for least get what everybody gets."""
_EVEN = (1.0, 1.0)

Terms = tuple[float, float]


class Shares:
    """What each tenant asked for and what was served, in server seconds a second."""

    def __init__(self) -> None:
        self.weights: Mapping[str, float] = {}
        self._fresh: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._refused = self._refused_fresh = 0.0
        self._terms: dict[str, Terms] = {}
        self.caution = 1.0
        """By how much pressure on the fleet counts more."""
        self._at: float | None = None
        self._told: str | None = None

    def terms(self, tenant: str) -> Terms:
        """By how much of the capacity price its requests are weighed, 0..1, and the share of a concurrency limit that
        is there for them."""
        return self._terms.get(tenant, _EVEN) if self._terms else _EVEN

    def on_asked(self, tenant: str, work_s: float, *, refused: bool) -> None:
        """A request of this work was decided, or refused because capacity is scarce."""
        self._fresh[tenant] = self._fresh.get(tenant, 0.0) + work_s
        if refused:
            self._refused_fresh += work_s

    def tick(self, *, now: float) -> list[Event]:
        """Say anew who is relieved of how much; tells who asks for too much when that begins or ends."""
        kept = 0.0 if self._at is None else math.exp(-(now - self._at) / _MEMORY_S)
        self._at = now
        asked = {t: kept * d + self._fresh.pop(t, 0.0) / _MEMORY_S for t, d in self._asked.items()}
        asked |= {t: d / _MEMORY_S for t, d in self._fresh.items()}
        self._refused, self._refused_fresh = kept * self._refused + self._refused_fresh / _MEMORY_S, 0.0
        if len(asked) > _MOST:
            asked = dict(nlargest(_MOST, asked.items(), key=lambda row: row[1]))
        self._asked, self._fresh = {t: d for t, d in asked.items() if d > _FORGOTTEN}, {}
        total = sum(self._asked.values())
        short = self._refused / total if total > 0.0 else 0.0
        if len(self._asked) < 2 or short < _LEAST_REFUSED:
            self._terms, self.caution = {}, 1.0
            return self._tell(None, short)
        level = self._level(total - self._refused)
        strength = min(short / _WHOLE_REFUSED, 1.0)
        below = {t: strength * _below(d, self._weight(t) * level) for t, d in self._asked.items()}
        most_below = max(below.values())
        self._terms = {t: (1.0 - b, 1.0 if b else 1.0 - _KEPT * most_below) for t, b in below.items()}
        self.caution = 1.0 + _CAUTION * most_below
        most = max(self._asked, key=lambda t: self._asked[t] / self._weight(t))
        return self._tell(most, short)

    def _weight(self, tenant: str) -> float:
        return self.weights.get(tenant, 1.0)

    def _level(self, served: float) -> float:
        """The water level of max-min fairness: the least who ask for least by weight are served whole."""
        weight = sum(self._weight(t) for t in self._asked)
        for load, tenant in sorted((d / self._weight(t), t) for t, d in self._asked.items()):
            if load * weight >= served:
                return served / weight
            served -= self._asked[tenant]
            weight -= self._weight(tenant)
        return math.inf

    def _tell(self, most: str | None, short: float) -> list[Event]:
        if (most is None) == (self._told is None):
            return []
        subject = most or self._told or ""
        self._told = most
        if most is None:
            return [PriceUpdate("tenant", subject, 1.0, 0.0, "nothing is refused for want of capacity any more")]
        reason = f"it asks for most by its weight while {short:.1%} is refused: those within their share go first"
        return [PriceUpdate("tenant", subject, 0.0, 1.0, reason)]


def _below(asked: float, share: float) -> float:
    """1 for who asks for half of its share or less, 0 for who asks for all of it or more."""
    return min(max(2.0 - 2.0 * asked / share, 0.0), 1.0) if share > 0.0 else 0.0
