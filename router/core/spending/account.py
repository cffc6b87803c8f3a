"""The books of one class for one day: reserved before a call, settled after it, each call once."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

DAY_S = 86_400.0
_MAX_LAPSED = 4096
"""Calls whose reservation has lapsed and that may still tell their cost."""
_MOST_USD = 1e12


def day_of(at: float) -> int:
    """The day of UTC that wall time `at` falls in, in days since the epoch."""
    return int(at // DAY_S)


def resets_s(at: float) -> float:
    """Seconds from `at` to the next day."""
    return DAY_S - at % DAY_S


class Reservation(Struct, frozen=True, gc=False):
    """What one call may cost. Past `expires` (monotonic seconds) it is given back: its end was never told."""

    decision_id: str
    usd: float
    expires: float


class Books(Struct, frozen=True):
    """An account as it is saved. `open` holds what is reserved, by decision id: each call has a decision of its own."""

    day: int
    spent_usd: float
    open: dict[str, float] = {}


class Account:
    """What a class spent in `day`, and what its calls in flight may still cost.

    A cost counts on the day on which it is known. A reservation passes into the next day with its call.
    """

    __slots__ = ("_lapsed", "_open", "carried", "day", "reserved_usd", "spent_usd")

    def __init__(self, day: int) -> None:
        self.day = day
        self.spent_usd = 0.0
        self.reserved_usd = 0.0
        self._open: dict[str, Reservation] = {}
        self._lapsed: OrderedDict[str, None] = OrderedDict()
        self.carried: dict[str, float] = {}
        """What was counted for calls that a crash cut off, by decision id, until the log tells what they cost."""

    @property
    def open(self) -> dict[str, float]:
        """What is reserved, by attempt id."""
        return {attempt: one.usd for attempt, one in self._open.items()}

    def turn(self, day: int) -> bool:
        """A new day begins with nothing spent; true if it did. A day never turns back."""
        if day <= self.day:
            return False
        self.day, self.spent_usd = day, 0.0
        self.carried.clear()
        return True

    def reserve(self, attempt_id: str, decision_id: str, usd: float, *, expires: float) -> None:
        """A call that may cost this much is about to be made; a second time under the same id changes nothing."""
        if attempt_id in self._open or attempt_id in self._lapsed:
            return
        self._open[attempt_id] = Reservation(decision_id, usd, expires)
        self.reserved_usd += usd

    def settle(self, attempt_id: str, usd: float) -> bool:
        """A call has ended and cost this much; false where that was known already, or nothing was reserved for it."""
        if attempt_id in self._open:
            self._give_back(attempt_id)
        elif attempt_id in self._lapsed:
            del self._lapsed[attempt_id]
        else:
            return False
        self.spent_usd += usd
        return True

    def lapse(self, now: float) -> int:
        """Give back what has expired; how many. What such a call costs still counts, once, if it is ever told."""
        late = [attempt for attempt, one in self._open.items() if one.expires <= now]
        for attempt in late:
            self._give_back(attempt)
            self._lapsed[attempt] = None
            if len(self._lapsed) > _MAX_LAPSED:
                self._lapsed.popitem(last=False)
        return len(late)

    def _give_back(self, attempt_id: str) -> None:
        usd = self._open.pop(attempt_id).usd
        self.reserved_usd = max(self.reserved_usd - usd, 0.0) if self._open else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        return not self._open

    def correct(self, decision_id: str, usd: float) -> None:
        """The log tells what a call of an earlier life cost: in place of what was counted for it, if anything was."""
        self.spent_usd = max(self.spent_usd + usd - self.carried.pop(decision_id, 0.0), 0.0)

    def books(self) -> Books:
        """What a checkpoint keeps."""
        return Books(self.day, self.spent_usd, {one.decision_id: one.usd for one in self._open.values()})

    @staticmethod
    def of(books: Books) -> Account:
        """The account of an earlier life. What was reserved counts as spent: those calls may have been made and paid,
        and nobody is left to tell."""
        account = Account(books.day)
        account.carried = {decision: _sane(usd) for decision, usd in books.open.items()}
        account.spent_usd = _sane(books.spent_usd) + sum(account.carried.values())
        return account


def _sane(usd: float) -> float:
    return min(max(usd, 0.0), _MOST_USD)
