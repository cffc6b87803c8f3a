"""The books of one class: whatever happens to its calls, in whatever order, they add up."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import json

from router.core.spending.account import DAY_S, Account, Books, day_of, resets_s

USD = st.floats(0.0, 10.0)
IDS = st.integers(0, 4).map(str)


class Ledger(RuleBasedStateMachine):
    """The account beside the plainest model of it: three dictionaries."""

    @initialize()
    def begin(self) -> None:
        self.account = Account(0)
        self.now, self.day = 0.0, 0
        self.open: dict[str, tuple[float, float]] = {}
        self.lapsed: set[str] = set()
        self.spent: list[float] = []

    @rule(name=IDS, usd=USD, lasts_s=st.floats(0.0, 20.0))
    def reserve(self, name: str, usd: float, lasts_s: float) -> None:
        """A second reservation under one id changes nothing."""
        self.account.reserve(name, f"d{name}", usd, expires=self.now + lasts_s)
        if name not in self.lapsed:
            self.open.setdefault(name, (usd, self.now + lasts_s))

    @rule(name=IDS, usd=USD)
    def settle(self, name: str, usd: float) -> None:
        """Counts once, in time or after the reservation has lapsed; never for a call that reserved nothing."""
        known = name in self.open or name in self.lapsed
        assert self.account.settle(name, usd) is known
        if known:
            self.open.pop(name, None)
            self.lapsed.discard(name)
            self.spent.append(usd)
        assert self.account.settle(name, usd) is False

    @rule(passes_s=st.floats(0.0, 15.0))
    def lapse(self, passes_s: float) -> None:
        self.now += passes_s
        late = [name for name, (_, expires) in self.open.items() if expires <= self.now]
        assert self.account.lapse(self.now) == len(late)
        for name in late:
            del self.open[name]
            self.lapsed.add(name)

    @rule(ahead=st.integers(-2, 2))
    def turn(self, ahead: int) -> None:
        """A new day has nothing spent, and what is in flight stays reserved; a day never turns back."""
        turned = self.account.turn(self.day + ahead)
        assert turned is (ahead > 0)
        if turned:
            self.day += ahead
            self.spent.clear()

    @rule()
    def crash(self) -> None:
        """What was open when the process died counts as spent, once."""
        kept = json.decode(json.encode(self.account.books()), type=Books)
        self.account = Account.of(kept)
        self.spent += [usd for usd, _ in self.open.values()]
        self.open.clear()
        self.lapsed.clear()

    @invariant()
    def adds_up(self) -> None:
        """Spent is the sum of what was settled, reserved the sum of what is open; neither is ever negative."""
        assert self.account.spent_usd == pytest.approx(sum(self.spent), abs=1e-9)
        assert self.account.reserved_usd == pytest.approx(sum(usd for usd, _ in self.open.values()), abs=1e-9)
        assert self.account.reserved_usd >= 0.0
        assert self.account.spent_usd >= 0.0
        assert set(self.account.open) == set(self.open)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_no_dust_is_left_when_all_is_settled() -> None:
    """A thousand thirds given back leave exactly nothing reserved."""
    account = Account(0)
    for i in range(1000):
        account.reserve(str(i), str(i), 1.0 / 3.0, expires=1.0)
    for i in range(1000):
        account.settle(str(i), 0.0)
    assert account.reserved_usd == 0.0


def test_what_the_log_tells_takes_the_place_of_what_was_counted() -> None:
    """A call that a crash cut off counts with its reservation until its real cost is known, and then with that."""
    account = Account.of(Books(0, 1.0, {"d1": 0.5, "d2": 0.25}))
    assert account.spent_usd == 1.75
    account.correct("d1", 0.1)
    account.correct("d3", 0.2)
    assert account.spent_usd == pytest.approx(1.0 + 0.1 + 0.25 + 0.2)
    account.correct("d1", 0.0)
    assert account.spent_usd == pytest.approx(1.55), "once"


def test_a_day_is_one_of_utc() -> None:
    """Midnight belongs to the day that begins."""
    assert (day_of(DAY_S - 1.0), day_of(DAY_S)) == (0, 1)
    assert (resets_s(DAY_S), resets_s(DAY_S - 1.0)) == (DAY_S, 1.0)
