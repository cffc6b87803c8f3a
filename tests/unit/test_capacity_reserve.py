"""Reserved tokens: what they are worth, how their size is learned, and what is told of them."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.control.capacity import Quota
from router.core.capacity.reserve import FILLING, SPILLING, Reserve, spills_to
from router.core.controller import Controller
from router.core.fleet import Member
from router.core.snapshot import current, restore, take
from router.domain.control.capacity import ReserveObserved, SpillChanged
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Mode, Price, Tier, TokenQuota
from router.domain.events import LimitUpdate, PriceUpdate
from router.policy.policy import Bounds
from tests.regressions.house import House

PAID = Price(1.0, 4.0)


SIZE = TokenQuota(6000.0, 600.0)


def reserved(quota: TokenQuota | None = SIZE) -> Reserve:
    deployment = Deployment(
        DeploymentName("r"), "r", "m", Tier.LARGE, Kind.PROVISIONED, Address("simulated", "m"), Price(0.0, 0.0, 6.0)
    )
    reserve = Reserve(deployment, Quota(quota))
    reserve.quota.on_demand = PAID
    return reserve


def other(name: str, model: str, tier: Tier, price: Price) -> Deployment:
    return Deployment(DeploymentName(name), name, model, tier, Kind.CONTINUOUS, Address("simulated", model), price)


def test_a_token_costs_nothing_while_all_fits_and_what_is_paid_elsewhere_at_half_a_bucket() -> None:
    """Both resources have their own price, and an empty bucket is worth no more than twenty times the on-demand one."""
    quota = reserved().quota
    assert quota.bid_usd(1e6, 1e6, now=0.0) == 0.0
    quota.reserve(3000.0, 0.0, now=0.0)
    assert quota.bid_usd(1e6, 1e6, now=0.0) == pytest.approx(PAID.input_usd_per_mtok)
    quota.reserve(3000.0, 300.0, now=0.0)
    assert quota.bid_usd(1e6, 0.0, now=0.0) == pytest.approx(20.0 * PAID.input_usd_per_mtok)
    assert quota.bid_usd(0.0, 1e6, now=0.0) == pytest.approx(PAID.output_usd_per_mtok)


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 1.0)), max_size=40))
def test_the_drained_bucket_obeys_the_rule_of_the_dual_price(uses: list[tuple[float, float]]) -> None:
    """drained <- [drained + use - capacity * time]+, whatever comes when: the memory of a bid price."""
    quota, now, drained = Quota(TokenQuota(600.0, 600.0)), 0.0, 0.0
    quota.input.refill(now)
    for after, share in uses:
        now += after
        drained = max(drained - after * 10.0, 0.0)
        assert quota.input.drained_ratio(now) == pytest.approx(drained / 600.0, abs=1e-6)
        tokens = share * quota.input.level
        quota.reserve(tokens, 0.0, now=now)
        drained += tokens


def test_a_call_that_was_never_taken_in_gives_its_tokens_back() -> None:
    """A refusal costs nothing."""
    quota = reserved().quota
    quota.reserve(1000.0, 100.0, now=0.0)
    quota.settle(100.0, 0.0, refused_input=1000.0)
    assert (quota.input.level, quota.output.level) == (6000.0, 600.0)
    assert (quota.used_input, quota.used_output) == (0.0, 0.0)


def throttled(true_in: float, true_out: float, demand: float, *, seed: int = 1) -> tuple[Quota, int, int]:
    """Ten minutes against buckets of an unknown size; calls of 100 in and 10 out on average, `demand` a second."""
    rng, server, quota = Random(seed), Quota(TokenQuota(true_in, true_out)), Quota(None)
    now, late, refused = 0.0, 0, 0
    while now < 600.0:
        now += rng.expovariate(demand)
        tokens = (rng.uniform(50.0, 150.0), rng.uniform(5.0, 15.0))
        quota.probe(now=now)
        if not quota.has_room(*tokens, now=now):
            continue
        quota.reserve(*tokens, now=now)
        if server.has_room(*tokens, now=now):
            server.reserve(*tokens, now=now)
            late += now > 120.0
        else:
            quota.settle(tokens[1], 0.0, refused_input=tokens[0])
            quota.on_throttled(now=now)
            refused += now > 120.0
    return quota, late, refused


@pytest.mark.parametrize("seed", range(4))
def test_an_unknown_size_is_learned_from_throttles(seed: int) -> None:
    """At twice the load the binding bucket is known within a third at any time later, in full use, with few refusals;
    the other is not thought to be smaller than what is used of it."""
    quota, taken, refused = throttled(6000.0, 6000.0, 2.0, seed=seed)
    assert 0.8 * 6000.0 < quota.input.capacity < 1.45 * 6000.0
    assert taken * 100.0 > 0.85 * 6000.0 * 8.0
    assert refused < 0.05 * taken
    assert quota.output.capacity > 0.7 * 600.0


def test_what_is_never_throttled_has_no_bound() -> None:
    """Nothing is held back on a guess, and nothing is said of shares that nobody knows."""
    quota, _, refused = throttled(1e9, 1e9, 2.0)
    assert math.isinf(quota.input.capacity)
    assert refused == 0
    assert (quota.saturation_ratio(now=600.0), quota.bid_usd(1.0, 1.0, now=600.0)) == (0.0, 0.0)
    reserve = reserved(None)
    reserve.tick(0.0, now=0.0)
    account = reserve.close(60.0)
    assert (account.input_ratio, account.wasted_usd) == (None, 0.0)


def test_a_throttle_at_little_load_says_nothing_of_a_known_size() -> None:
    """A size that was learned under load is not thrown away for a hiccup, nor for a second one at the same moment."""
    quota, _, _ = throttled(6000.0, 6000.0, 2.0)
    size = quota.input.capacity
    quota.probe(now=700.0)
    assert quota.on_throttled(now=720.0) == []
    assert quota.on_throttled(now=721.0) == []
    assert quota.input.capacity == size


def test_a_size_that_grew_is_found_again() -> None:
    """Each minute of full use without a throttle raises it by a twentieth, told with its reason."""
    reserve = reserved(None)
    quota = reserve.quota
    quota.reserve(3000.0, 100.0, now=0.0)
    told = reserve.resized(quota.on_throttled(now=60.0))
    for second in range(61, 400):
        tokens = quota.input.refill(float(second))
        quota.reserve(max(tokens, 0.0), 1.0, now=float(second))
        told += reserve.tick(0.0, now=float(second))
    sizes = [e for e in told if isinstance(e, LimitUpdate) and e.what == "input_tokens_per_min"]
    assert sizes[0].new == 3000.0
    assert [b.new / a.new for a, b in pairwise(sizes)] == pytest.approx([1.05] * 5)
    assert sizes[0].reason == "throttled"
    assert {e.reason for e in sizes[1:]} == {"a minute of full use without a throttle"}


def test_spilling_begins_at_once_and_ends_with_room_and_a_dwell() -> None:
    """At half a bucket it begins; it ends at a quarter, after ten seconds at least; each with its reason."""
    reserve = reserved()
    reserve.tick(0.0, now=0.0)
    reserve.quota.reserve(3010.0, 0.0, now=0.0)
    told = [e for e in reserve.tick(0.0, now=0.1) if isinstance(e, SpillChanged)]
    assert [(e.old, e.new, e.reason) for e in told] == [
        (FILLING, SPILLING, "input tokens are worth more than they cost on demand")
    ]
    ends = [t for t in range(1, 60) if any(isinstance(e, SpillChanged) for e in reserve.tick(0.0, now=float(t)))]
    assert ends == [16]
    pressed = [e for e in reserve.tick(0.3, now=60.0) if isinstance(e, SpillChanged)]
    assert [e.reason for e in pressed] == ["predictions press on the objectives"]
    assert not [e for e in reserve.tick(0.0, now=65.0) if isinstance(e, SpillChanged)]
    assert [e.new for e in reserve.tick(0.0, now=70.0) if isinstance(e, SpillChanged)] == [FILLING]


def test_a_price_is_told_when_it_moves_and_not_for_every_token() -> None:
    """With old, new and reason, at a quarter of the on-demand price."""
    reserve = reserved()
    told = []
    for second in range(60):
        reserve.quota.reserve(10.0, 0.0, now=float(second))
        told += [e for e in reserve.tick(0.0, now=float(second)) if isinstance(e, PriceUpdate)]
    assert told == []
    reserve.quota.reserve(4000.0, 0.0, now=60.0)
    (event,) = [e for e in reserve.tick(0.0, now=60.0) if isinstance(e, PriceUpdate)]
    assert (event.kind, event.old, event.reason) == ("input_tokens", 0.0, "demand for it")
    assert event.new > PAID.input_usd_per_mtok


def test_a_minute_is_accounted_for_by_its_tighter_resource() -> None:
    """A third of the input and half of the output: half of the minute's dollars are wasted."""
    reserve = reserved()
    reserve.tick(0.0, now=0.0)
    reserve.quota.reserve(2000.0, 300.0, now=1.0)
    reserve.quota.settle(300.0, 300.0)
    (account,) = [e for e in reserve.tick(0.0, now=60.0) if isinstance(e, ReserveObserved)]
    assert (account.input_ratio, account.output_ratio) == pytest.approx((1 / 3, 0.5))
    assert account.wasted_hours == pytest.approx(0.5 / 60.0)
    assert account.wasted_usd == pytest.approx(0.5 / 60.0 * 6.0)


def test_load_spills_to_the_cheapest_of_the_same_model_or_tier() -> None:
    """And to nobody where nobody is paid by the token."""
    own = reserved().deployment
    dear, cheap = other("dear", "m", Tier.LARGE, Price(3.0, 3.0)), other("cheap", "m", Tier.LARGE, Price(1.0, 1.0))
    same, small = other("same", "n", Tier.LARGE, Price(0.5, 0.5)), other("small", "s", Tier.SMALL, Price(0.1, 0.1))
    assert spills_to(own, [own, small, same, dear, cheap]) == cheap.price
    assert spills_to(own, [own, small, same]) == same.price
    assert spills_to(own, [own, small]) == small.price
    assert spills_to(own, [own]) == Price(0.0, 0.0)


def test_what_was_learned_of_a_size_survives_a_restart() -> None:
    """Full buckets of the size that was learned; nonsense is refused."""
    quota, _, _ = throttled(6000.0, 6000.0, 2.0)
    fresh = Quota(None)
    assert not fresh.is_learned
    fresh.restore(*quota.state())
    assert fresh.is_learned
    assert fresh.input.capacity == quota.input.capacity == fresh.input.refill(0.0)
    with pytest.raises(ValueError, match="more than 0"):
        fresh.restore(0.0, 1.0)


def test_a_checkpoint_keeps_sizes_that_were_learned_and_no_others() -> None:
    """A stated size is the operator's, and an unknown one is not worth a line."""

    def controller(quota: TokenQuota | None) -> Controller:
        return House(deployments=(replace(reserved(None).deployment, quota=quota),)).controller

    first = controller(None)
    assert current(first, at=1.0).reserves == {}
    quota = first.fleet.members[DeploymentName("r")].quota
    assert quota is not None
    quota.restore(5000.0, 700.0)
    kept = take(first, at=1.0)
    again, stated = controller(None), controller(SIZE)
    for one in (again, stated):
        restore(one, kept)
    assert [c.fleet.members[DeploymentName("r")].quota.state() for c in (again, stated)] == [  # type: ignore[union-attr]
        [5000.0, 700.0],
        [6000.0, 600.0],
    ]


def test_in_the_mode_advise_no_size_is_learned() -> None:
    """Throttles move nothing there, and everything again from the reload on that takes the mode away."""
    acting = reserved(None).deployment
    member = Member(replace(acting, mode=Mode.ADVISE), Bounds())
    assert member.quota is not None
    member.quota.reserve(3000.0, 100.0, now=0.0)
    assert member.quota.on_throttled(now=60.0) == []
    member.adopt(acting, Bounds())
    assert [moved.what for moved in member.quota.on_throttled(now=90.0)] == [
        "input_tokens_per_min",
        "output_tokens_per_min",
    ]
