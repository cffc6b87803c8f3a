"""What hour and what kind of day was it? And: which stretches of a record stand for others that may come?

A record of two days or more is cut into its local days, a shorter one into hours or parts of an hour. What is chosen
without a fold is judged on it, and folds are what is drawn again for an interval.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

HOURS = 24
_DAY_MINUTES = 1440
_SHORT_FOLDS = ((12 * 60, 60), (0, 10))
"""From so many minutes on, folds of so many minutes, where there are not two days."""

Integers = NDArray[np.int64]


class Weekday(StrEnum):
    """In order, from Monday, as in `datetime`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


WEEK = tuple(Weekday)


class Pattern(StrEnum):
    """Which hours may have units of their own."""

    FLAT = "flat"
    DAY = "day"
    WEEK = "week"

    @property
    def kinds(self) -> tuple[tuple[Weekday, ...], ...]:
        """Days that are planned alike."""
        return (WEEK[:5], WEEK[5:]) if self is Pattern.WEEK else (WEEK,)


class Days(Struct, frozen=True):
    """`hour` and `weekday` of each minute in local time, the fold it lies in, the weekday of each fold, and in words
    what a fold is. `by_day`: folds are days, so that hours of a day can have units of their own."""

    hour: Integers
    weekday: Integers
    fold: Integers
    fold_weekday: Integers
    folds: int
    said: str
    by_day: bool


def days(first: int, count: int, zone: tzinfo) -> Days:
    """Of `count` minutes from minute `first` since the epoch."""
    local = _local(first, count, zone)
    hour, day = local // 60 % HOURS, local // _DAY_MINUTES
    weekday = (day + 3) % 7  # the epoch was a Thursday
    if count >= 2 * _DAY_MINUTES:
        fold, said = day - day[0], "day"
    else:
        length = next(minutes for least, minutes in _SHORT_FOLDS if count >= least)
        fold, said = np.arange(count, dtype=np.int64) // length, "hour" if length == 60 else f"{length} minutes"
    folds = int(fold[-1]) + 1
    fold_weekday = weekday[np.searchsorted(fold, np.arange(folds))]
    return Days(hour, weekday, fold, fold_weekday, folds, said, said == "day")


def _local(first: int, count: int, zone: tzinfo) -> Integers:
    """Minutes since the epoch as clocks on the wall show them; the offset is looked up once for each hour."""
    minutes = first + np.arange(count, dtype=np.int64)
    hours, which = np.unique(minutes // 60, return_inverse=True)
    offsets = np.array([_offset(int(hour), zone) for hour in hours], dtype=np.int64)
    return np.asarray(minutes + offsets[which], dtype=np.int64)


def _offset(hour: int, zone: tzinfo) -> int:
    """Minutes ahead of UTC in this hour since the epoch."""
    offset = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).astimezone(zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds() / 60)


def possible(found: Days) -> Pattern:
    """The finest pattern that the record can say anything of: each hour of each kind of day was seen on two days."""
    for pattern in (Pattern.WEEK, Pattern.DAY):
        if found.by_day and all(_seen_twice(found, kind) for kind in pattern.kinds):
            return pattern
    return Pattern.FLAT


def _seen_twice(found: Days, kind: tuple[Weekday, ...]) -> bool:
    inside = np.isin(found.weekday, [WEEK.index(day) for day in kind])
    seen = np.unique(np.column_stack((found.hour[inside], found.fold[inside])), axis=0)
    return bool(np.bincount(seen[:, 0], minlength=HOURS).min() >= 2)
