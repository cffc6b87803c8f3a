"""What is said of a scenario is right: on series made by hand."""

from __future__ import annotations

import pytest

from router.sim.scenarios.measures import (
    breaches,
    flips,
    is_below,
    limit_overshoot_ratio,
    overshoot_ratio,
    per_minute,
    regret,
    settling_s,
    trailing,
    violation_s,
)

ENDS = (5.0, 10.0, 15.0, 20.0, 25.0)


def test_trailing_weighs_requests_not_windows() -> None:
    """A window of ten requests counts ten times as much as a window of one."""
    assert trailing([1, 9, 0], [1, 10, 1], 2) == [1.0, pytest.approx(10 / 11), pytest.approx(9 / 11)]


def test_trailing_says_nothing_where_nothing_came() -> None:
    """No requests, no share; and old windows are forgotten."""
    assert trailing([4, 0, 0], [5, 0, 0], 2) == [0.8, 0.8, None]


def test_settled_is_from_when_it_stays_near_the_best() -> None:
    """One good window before a bad one does not count."""
    actual = (0.5, 0.96, 0.7, 0.95, 0.97)
    assert settling_s(ENDS, actual, [1.0] * 5, changed_s=0.0) == 20.0


def test_settling_counts_from_the_change() -> None:
    """Not from the start of the run."""
    assert settling_s((65.0, 70.0), (0.5, 0.99), (1.0, 1.0), changed_s=60.0) == 10.0


def test_what_is_bad_at_the_end_has_not_settled() -> None:
    """However good it was before."""
    assert settling_s(ENDS, (1.0, 1.0, 1.0, 1.0, 0.94), [1.0] * 5, changed_s=0.0) is None


def test_better_than_the_best_is_settled() -> None:
    """Only a shortfall unsettles; and windows that tell nothing are passed over."""
    assert settling_s(ENDS, (0.9, None, 0.9, 0.9, None), (0.5, 0.5, None, 0.5, 0.5), changed_s=0.0) == 5.0


def test_nothing_told_is_not_settled() -> None:
    """No window, no settling."""
    assert settling_s(ENDS, [None] * 5, [1.0] * 5, changed_s=0.0) is None


def test_overshoot_is_of_the_objective_in_force() -> None:
    """0.6 s is 20 % over 0.5 s and 140 % over the 0.25 s that was promised later."""
    assert overshoot_ratio((0.6, 0.6), (0.5, 0.5)) == pytest.approx(0.2)
    assert overshoot_ratio((0.6, 0.6), (0.5, 0.25)) == pytest.approx(1.4)


def test_no_overshoot_within_objectives() -> None:
    """Headroom is not negative overshoot, and nothing told is none."""
    assert overshoot_ratio((0.1, None), (0.5, 0.5)) == 0.0
    assert overshoot_ratio((None,), (0.5,)) == 0.0


def test_violation_counts_the_seconds_of_windows_over_the_objective() -> None:
    """At the objective is within it."""
    assert violation_s((0.5, 0.51, None, 0.7), [0.5] * 4, 5.0) == 10.0


def test_a_limit_that_undershoots_on_its_way_down() -> None:
    """From 100 to rest at 50 by way of 30: 40 % past."""
    assert limit_overshoot_ratio((100.0, 60.0, 30.0, 45.0, 50.0, 50.0, 50.0)) == pytest.approx(0.4)


def test_a_limit_that_approaches_does_not_overshoot() -> None:
    """From either side."""
    assert limit_overshoot_ratio((100.0, 70.0, 55.0, 50.0, 50.0, 50.0)) == 0.0
    assert limit_overshoot_ratio((10.0, 30.0, 45.0, 50.0, 50.0, 50.0)) == 0.0


def test_a_limit_that_leaves_its_place_and_comes_back() -> None:
    """It began where it rests: the widest excursion counts; too short a series says nothing."""
    assert limit_overshoot_ratio((50.0, 75.0, 40.0, 50.0, 50.0, 50.0)) == pytest.approx(0.5)
    assert limit_overshoot_ratio((50.0, None, 90.0)) == 0.0


def test_flips_are_turns_beyond_the_dead_band() -> None:
    """Up, down, up is two turns; a ripple within the band is none; going on is none."""
    assert flips((10.0, 20.0, 10.0, 20.0), 0.1) == 2
    assert flips((10.0, 20.0, 19.0, 20.0, 18.5), 0.1) == 0
    assert flips((10.0, None, 12.0, 15.0, 30.0), 0.1) == 0
    assert flips((0.1, 0.2, 0.4, 0.8, 0.3), 0.1) == 1


def test_a_slow_drift_back_is_a_turn_once_it_is_beyond_the_band() -> None:
    """The band is counted from the extreme, not from the last value."""
    assert flips((10.0, 20.0, 19.0, 18.0, 17.0, 16.0), 0.1) == 1


def test_a_rate_is_per_minute() -> None:
    """Three in half a minute are six a minute; no time, no rate."""
    assert per_minute(3, 30.0) == 6.0
    assert per_minute(3, 0.0) == 0.0


def test_a_floor_is_broken_only_where_chance_does_not_explain_it() -> None:
    """17 of 20 under 0.9 may be chance, 170 of 200 is not; nothing served breaks nothing."""
    assert not is_below(17, 20, 0.9)
    assert is_below(170, 200, 0.9)
    assert not is_below(180, 200, 0.9)
    assert not is_below(0, 0, 0.9)


def test_a_test_of_the_floor_is_wrong_once_in_twenty() -> None:
    """At 0.9 of 100, 84 come by chance in less than 5 % of cases, 85 in more."""
    assert is_below(84, 100, 0.9)
    assert not is_below(85, 100, 0.9)


def test_breaches_are_stretches() -> None:
    """Two windows in a row are one breach."""
    assert breaches([True, True, False, True, False]) == 2
    assert breaches([False, False]) == 0


def test_regret_sums_what_was_lost_and_what_was_gained() -> None:
    """Gains in one window pay for losses in another."""
    assert regret([10, 5], [8, 9]) == 2
    assert regret([10, 10], [8, 9]) == -3
