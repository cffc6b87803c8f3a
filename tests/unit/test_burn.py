"""How fast is an error budget being spent?"""

from __future__ import annotations

import pytest

from router.slo.burn import BurnMeter


def meter(target: float = 0.99) -> BurnMeter:
    return BurnMeter(target, shortest_s=300.0, longest_s=6 * 3600.0)


def test_a_budget_spent_as_it_comes_burns_at_one() -> None:
    """One bad request in a hundred under a target of 99 %."""
    burn = meter()
    for second in range(1000):
        burn.record(second % 100 != 0, now=float(second))
    assert burn.rate(3600.0, now=1000.0) == pytest.approx(1.0)


def test_only_what_is_in_the_window_counts() -> None:
    """An outage an hour ago burns in the six hours, not in the last five minutes."""
    burn = meter()
    for second in range(600):
        burn.record(False, now=float(second))
    for second in range(600, 7200):
        burn.record(True, now=float(second))
    assert burn.rate(300.0, now=7200.0) == 0.0
    assert burn.rate(6 * 3600.0, now=7200.0) == pytest.approx(600 / 7200 / 0.01)


def test_what_is_older_than_the_longest_window_is_forgotten_but_in_the_totals() -> None:
    """Memory is bounded; the totals go on."""
    burn = meter()
    burn.record(False, now=0.0)
    burn.record(True, now=10 * 3600.0)
    assert burn.counts(10 * 3600.0, now=10 * 3600.0) == (0, 1)
    assert (burn.bad, burn.total) == (1, 2)


def test_nothing_burns_where_nothing_ended() -> None:
    """No request, no rate."""
    assert meter().rate(300.0, now=5.0) == 0.0
