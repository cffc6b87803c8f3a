"""When is there a job? Sans-IO: requests come and go, and `look` says which of them begin one, or can wait no longer.

A job begins when it is full; when at least as many as the service takes were collected for as long as the policy says;
or, with at least as many, just before the tightest of them would be late in any later one. Who would be late in a job
that begins now is let go: that is how a lane with too little traffic gives its requests back.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from router.domain.aws.job import JobTerms

_FULL_BYTES = 200_000_000
"""A job's input is held in memory while it is written; the service takes larger files."""


class Item(Struct, frozen=True):
    """A record that is collected: its key, its model input, since when, when its answer is due, until when it may stay
    at most, and the request class that asks."""

    key: str
    asked: bytes
    since: float
    due: float | None = None
    leave_at: float | None = None
    request_class: str = ""


class Look(Struct, frozen=True):
    """What is to be done: records that begin a job, and records that leave."""

    begins: tuple[Item, ...] = ()
    leaves: tuple[Item, ...] = ()


_NOTHING = Look()
_NEVER = (inf, inf, inf)


class Collector:
    """The records of one lane that wait for a job."""

    def __init__(self, terms: JobTerms) -> None:
        self.terms = terms
        self._items: dict[str, Item] = {}
        self._bytes = 0
        self._bounds = _NEVER
        """Earliest since, due and leave of all; of some that are gone too, until a look finds that out."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def add(self, item: Item) -> None:
        """Collect it; a key that is there already stays as it is."""
        if item.key not in self._items:
            self._items[item.key] = item
            self._bytes += len(item.asked)
            self._bounds = _with(self._bounds, item)

    def remove(self, key: str) -> None:
        """Nobody waits for it any more."""
        item = self._items.pop(key, None)
        if item is not None:
            self._bytes -= len(item.asked)

    def oldest_s(self, *, now: float) -> float:
        """For how long the oldest has been collected; 0 where there is none."""
        return max((now - item.since for item in self._items.values()), default=0.0)

    def look(self, job_s: float, *, now: float) -> Look:
        """What is to be done now, where a job takes `job_s`. What begins or leaves is collected no more."""
        if not self._items or not (self._is_full() or self._may_be_time(job_s, now)):
            return _NOTHING
        leaves = tuple(item for item in self._items.values() if now >= _latest(item, job_s))
        for item in leaves:
            self.remove(item.key)
        begins = self._begin() if self._is_time(job_s, now) else ()
        self._bounds = _NEVER
        for item in self._items.values():
            self._bounds = _with(self._bounds, item)
        return Look(begins, leaves) if begins or leaves else _NOTHING

    def _is_full(self) -> bool:
        return len(self._items) >= self.terms.max_records or self._bytes >= _FULL_BYTES

    def _is_enough(self) -> bool:
        return len(self._items) >= max(self.terms.min_records, 1)

    def _may_be_time(self, job_s: float, now: float) -> bool:
        """Whether it is worth looking at each record: of many, few looks find anything."""
        since, due, leave_at = self._bounds
        margin_s = self.terms.margin_s if self._is_enough() else 0.0
        is_old = self._is_enough() and now - since >= self.terms.collect_s
        return is_old or now >= min(due - job_s, leave_at) - margin_s

    def _is_time(self, job_s: float, now: float) -> bool:
        if not self._is_enough():
            return False
        if self._is_full() or self.oldest_s(now=now) >= self.terms.collect_s:
            return True
        return now >= min(_latest(item, job_s) for item in self._items.values()) - self.terms.margin_s

    def _begin(self) -> tuple[Item, ...]:
        """The oldest, as many as fit; the rest waits for the next, also where it would be too few."""
        chosen: list[Item] = []
        size = 0
        for item in sorted(self._items.values(), key=_since):
            if len(chosen) >= self.terms.max_records or (chosen and size + len(item.asked) > _FULL_BYTES):
                break
            chosen.append(item)
            size += len(item.asked)
        for item in chosen:
            self.remove(item.key)
        return tuple(chosen)


def _with(bounds: tuple[float, float, float], item: Item) -> tuple[float, float, float]:
    since, due, leave_at = bounds
    return (
        min(since, item.since),
        due if item.due is None else min(due, item.due),
        leave_at if item.leave_at is None else min(leave_at, item.leave_at),
    )


def _since(item: Item) -> float:
    return item.since


def _latest(item: Item, job_s: float) -> float:
    """The last moment at which it is of use that a job begins."""
    latest = inf if item.due is None else item.due - job_s
    return latest if item.leave_at is None else min(latest, item.leave_at)
