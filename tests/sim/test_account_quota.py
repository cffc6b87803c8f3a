"""On-demand quotas in a closed loop: the router against the double's quota, in virtual time."""

from __future__ import annotations

import pytest

from bench.account_quota import ENDLESS, burst, steady, throttles, used_per_min
from router.domain.aws.terms import CallQuota
from router.domain.control.allowance import AllowanceObserved
from router.doubles.aws.models import Quota
from router.sim.clock import run_virtual

KNOWN = CallQuota(tokens_per_min=2e5, output_burndown=5.0)


@pytest.mark.parametrize(("max_tokens", "calls"), [(64_000, 31), (1_000, 1_333)])
def test_a_realistic_bound_lets_more_calls_run(max_tokens: int, calls: int) -> None:
    """AWS's own example through the whole router: 31 calls at once against 1,333, and nobody is throttled."""
    room = run_virtual(burst(max_tokens, calls=calls + 50))
    assert room.backend.most == pytest.approx(calls, abs=1)
    assert throttles(room) == 0


def test_who_knows_the_quota_is_never_throttled_and_uses_all_of_it() -> None:
    """Demand beyond the quota for five minutes: not one throttle, and at least what the quota gives is used."""
    room = run_virtual(steady(KNOWN, minutes=5.0))
    assert throttles(room) == 0
    assert used_per_min(room) > 0.99 * 2e5


def test_who_learns_the_quota_is_throttled_rarely_and_uses_nearly_all_of_it() -> None:
    """The same without a word of the size: about one call in 200 is throttled, where a router that does not look at
    quotas is throttled more often than it is answered."""
    learns, blind = (
        run_virtual(steady(CallQuota(output_burndown=5.0), minutes=5.0)),
        run_virtual(steady(ENDLESS, minutes=5.0)),
    )
    assert throttles(learns) < 0.01 * len(learns.world.bills)
    assert throttles(blind) > len(blind.world.bills)
    assert used_per_min(learns) > 0.97 * used_per_min(blind)


def test_calls_a_minute_are_learned_too() -> None:
    """100 calls a minute: throttles are few, and nine tenths of what the quota gives is used."""
    room = run_virtual(steady(CallQuota(), minutes=5.0, there=Quota(requests_per_min=100.0)))
    assert throttles(room) <= 10
    assert len(room.world.bills) == pytest.approx(100.0 * (1.0 + room.now() / 60.0), rel=0.1)


def test_the_quota_is_told() -> None:
    """At every tick: its size, and the share that is used up."""
    room = run_virtual(steady(KNOWN, minutes=2.0))
    last = list(room.of(AllowanceObserved))[-1]
    assert (last.requests_per_min, last.tokens_per_min) == (None, 2e5)
    assert last.tokens_ratio > 0.8
