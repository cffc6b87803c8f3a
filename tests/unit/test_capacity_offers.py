"""What to hold when: blocks and base against brute force, days and hours, calls too large, judged out of the sample."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.domain.deployment import Price, TokenQuota
from router.domain.errors import RouterError
from router.sim.capacity.advice import Advice, Terms, advise
from router.sim.capacity.calls import Calls
from router.sim.capacity.days import Pattern, days, possible
from router.sim.capacity.minutes import Minutes
from router.sim.capacity.notes import notes
from router.sim.capacity.offers import Commitment, Market, Offer, offers
from router.sim.capacity.proof import prove
from router.sim.capacity.saved import saved

UNIT = TokenQuota(1000.0, 1000.0)
PRICE = Price(1.0, 1.0)
FULL_USD = 0.06
"""On-demand USD of a unit in full use for an hour, of input tokens alone."""
MONDAY = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def calls(tokens_by_minute: list[float], *, each: int = 20) -> Calls:
    """So many equal calls in each minute, and one that ends the last of them."""
    tokens = np.array([*np.repeat(tokens_by_minute, each) / each, 1.0])
    at = MONDAY + np.arange(len(tokens)) * (60.0 / each)
    return Calls(at, tokens, np.zeros_like(tokens), whole_start=True)


def by_hour(units: list[float], days_long: int, seed: int = 0) -> Calls:
    """So many days whose hours need so many units, give or take."""
    rng = np.random.default_rng(seed)
    tokens = np.repeat(np.tile(np.array(units) * 1000.0, days_long), 60)
    return calls(list((tokens * rng.uniform(0.5, 1.5, size=len(tokens))).astype(float)))


def market(found: Minutes, pattern: Pattern, *, blocks: int = 4, worth_a_cut: float = 0.0) -> Market:
    """Of minutes in UTC."""
    told = days(found.first, found.count, UTC)
    return Market(saved(found, told), told, pattern, blocks=blocks, worth_a_cut=worth_a_cut)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=24, max_size=24), st.integers(5, 95), st.integers(5, 95))
def test_base_blocks_and_units_cost_least_of_all_there_are(units: list[int], hourly: int, committed: int) -> None:
    """Every base, every cut into two blocks and every number of units in them, tried one by one."""
    tokens = np.repeat(np.array(units, dtype=float) * 1000.0, 60)
    found = Minutes(calls([*tokens, *tokens[::-1]]), UNIT, PRICE)
    table = market(found, Pattern.DAY, blocks=2)
    offer = Offer(Commitment.ONE_MONTH, committed / 100 * FULL_USD, hourly / 100 * FULL_USD)
    best = float(table.usd(offer, table.best(offer, table.all)).sum())
    need = found.all.units.reshape(2, 24, 60)
    spilled = np.array([np.maximum(need - units, 0.0).sum(axis=(0, 2)) * 1e-3 for units in range(5)])
    least = min(
        brute(spilled, offer, base, cut, first, second)
        for base in range(5)
        for cut in range(1, 25)
        for first, second in product(range(base, 5), repeat=2)
    )
    assert best == pytest.approx(least, abs=1e-9)


def brute(spilled: np.ndarray, offer: Offer, base: int, cut: int, first: int, second: int) -> float:
    """USD of two days with these units before and after the cut."""
    bought = spilled[first, :cut].sum() + spilled[second, cut:].sum()
    extra = (first - base) * cut + (second - base) * (24 - cut)
    return float(bought + 48 * base * offer.base_usd + 2 * extra * (offer.by_hours_usd or 0.0))


def test_units_at_all_hours_are_the_newsvendors() -> None:
    """Without blocks: the least cost over all whole numbers of units, on the days that count."""
    found = Minutes(by_hour([1, 2, 5, 9] * 6, 3), UNIT, PRICE)
    table, weights = market(found, Pattern.FLAT), np.array([1.0, 0.0, 1.0])
    offer = Offer(Commitment.NONE, 0.4 * FULL_USD)
    need = found.all.units.reshape(3, -1)
    cost = [
        float(weights @ (np.maximum(need - units, 0.0).sum(axis=1) * 1e-3 + 24 * units * offer.base_usd))
        for units in range(15)
    ]
    assert table.table.levels[table.best(offer, table.without(1)).base] == int(np.argmin(cost))


def test_a_cut_that_saves_next_to_nothing_is_left_out() -> None:
    """Of hours that differ by chance one block remains; of those that truly differ, each has its own."""
    offer = Offer(None, 0.0, 0.5 * FULL_USD)
    by_chance = Minutes(by_hour([5.5] * 24, 2), UNIT, PRICE)
    cut, even = (market(by_chance, Pattern.DAY, worth_a_cut=worth) for worth in (0.0, 0.002))
    assert len(cut.best(offer, cut.all).blocks) > 1
    assert len(even.best(offer, even.all).blocks) == 1
    office = market(
        Minutes(by_hour([1.0] * 8 + [9.0] * 10 + [1.0] * 6, 4), UNIT, PRICE), Pattern.DAY, worth_a_cut=0.002
    )
    assert [(b.start, b.end) for b in office.best(offer, office.all).blocks] == [(0, 8), (8, 18), (18, 24)]


def test_a_call_larger_than_a_full_minute_of_the_units_goes_on_demand() -> None:
    """One call of 5,000 tokens a minute: four units of 1,000 never take it, five do."""
    found = Minutes(calls([5000.0] * 120, each=1), UNIT, PRICE)
    table = saved(found, days(found.first, found.count, UTC))
    assert table.taken_usd.sum(axis=(0, 1)).tolist() == pytest.approx([0, 0, 0, 0, 0, 120 * 5e-3])
    assert found.larger_than(4) == 1.0


def test_hours_are_those_of_the_clock_on_the_wall() -> None:
    """Across the spring change an hour is missing, and the day is one fold of 23 hours."""
    zone = ZoneInfo("Europe/Berlin")
    first = int(datetime(2024, 3, 30, 23, tzinfo=UTC).timestamp()) // 60
    told = days(first, 23 * 60 + 24 * 60 + 60, zone)
    assert 2 not in told.hour[told.fold == 0]
    assert [int((told.fold == fold).sum()) for fold in range(2)] == [23 * 60, 24 * 60]
    assert told.fold_weekday.tolist() == [6, 0, 1]


def test_a_pattern_needs_every_hour_on_two_days() -> None:
    """One day: flat; two: alike each day; a weekend of two days besides: apart."""
    first = int(MONDAY) // 60
    spans = {1440: Pattern.FLAT, 2 * 1440: Pattern.DAY, 6 * 1440: Pattern.DAY, 7 * 1440: Pattern.WEEK}
    assert {span: possible(days(first, span, UTC)) for span in spans} == spans


def test_short_records_are_cut_into_hours_or_less() -> None:
    """A day into hours, three hours into stretches of ten minutes: there must be folds to be judged on."""
    assert [days(0, count, UTC).folds for count in (1440, 180, 60)] == [24, 18, 6]
    assert days(0, 1440, UTC).by_day is False


def test_an_offer_is_judged_on_days_that_had_no_say() -> None:
    """Demand that is there on one day only is chosen for with it, and not for it."""
    tokens = [0.0] * 1440 + [9000.0] * 1440
    table = market(Minutes(calls(tokens), UNIT, PRICE), Pattern.FLAT)
    (proved,) = prove(table, [Offer(Commitment.NONE, 0.4 * FULL_USD)], rng=np.random.default_rng(0))
    assert proved.chosen_usd_per_hour < 0.5 * 9 * FULL_USD
    assert proved.usd_per_hour.mean == pytest.approx(0.5 * 9 * FULL_USD + 0.5 * 9 * 0.4 * FULL_USD, rel=1e-3)
    assert proved.saving_ratio.mean < 0.0


def test_units_drawn_again_are_those_that_would_be_chosen() -> None:
    """Each day counted once gives the units chosen; a day counted alone, those of that day."""
    units = [2.0] * 8 + [8.0] * 10 + [2.0] * 6
    table = market(Minutes(by_hour(units, 4), UNIT, PRICE), Pattern.DAY)
    for offer in (
        Offer(None),
        Offer(Commitment.NONE, 0.5 * FULL_USD),
        Offer(None, 0.0, 0.5 * FULL_USD),
        Offer(Commitment.ONE_MONTH, 0.4 * FULL_USD, 0.5 * FULL_USD),
    ):
        held = table.best(offer, table.all)
        drawn = table.redrawn_units(offer, held, np.array([[1.0] * 4, [0.0, 2.0, 1.0, 1.0]]))
        assert drawn[0].tolist() == table.units(held)
        assert drawn.shape == (2, max(len(held.blocks), 1))


def test_growing_units_take_what_fits_them() -> None:
    """Level by level the same as asked one at a time."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 6000, size=600).astype(float)
    at = MONDAY + np.sort(rng.uniform(0, 7200, size=600))
    found = Minutes(Calls(at, tokens, np.zeros(600), whole_start=True), UNIT, PRICE)
    for level, demand in enumerate(found.growing(range(8))):
        assert demand.units.tolist() == pytest.approx(found.fitting(level).units.tolist())


def advice(found: Minutes, terms: Terms) -> Advice:
    return advise(found, terms, UTC)


def terms(hourly: dict[Commitment, float], pattern: Pattern | None = None, lot: int = 1) -> Terms:
    """Prices as shares of what a unit serves in full use."""
    return Terms(UNIT, PRICE, {term: ratio * FULL_USD for term, ratio in hourly.items()}, lot, pattern)


def test_constant_demand_is_reserved_in_full() -> None:
    """All of it, nothing spilled, in use all the time, and worth it down to the price ratio."""
    found = advice(Minutes(calls([3000.0] * 1440 * 3), UNIT, PRICE), terms({Commitment.NONE: 0.6}))
    (row,) = found.held
    assert (row.units.low, row.units.mean, row.units.high) == (3, 3, 3)
    assert row.spilled_usd == pytest.approx(0.0, abs=1e-12)
    assert found.best.saving_ratio.mean == pytest.approx(0.4)
    assert found.demand_break_even == pytest.approx(0.6, abs=1e-6)
    assert found.critical_ratio == {Commitment.NONE: pytest.approx(0.6)}


def test_dear_units_are_not_bought_and_it_is_said() -> None:
    """Above a ratio of one nothing is held, and no break-even is made up."""
    minutes = Minutes(calls([3000.0] * 1440 * 3), UNIT, PRICE)
    asked = terms({Commitment.NONE: 1.2})
    found = advice(minutes, asked)
    assert not found.buys
    assert (found.demand_break_even, found.utilisation_ratio) == (None, None)
    assert any("1.20 times" in note for note in notes(minutes, asked, found))


def test_a_commitment_below_hours_above_it() -> None:
    """What is always there is committed to, what comes by day is bought by the hour, and each fold agrees."""
    units = [2.0] * 8 + [8.0] * 10 + [2.0] * 6
    found = advice(
        Minutes(by_hour(units, 15), UNIT, PRICE), terms({Commitment.NONE: 0.6, Commitment.SIX_MONTHS: 0.4}, Pattern.DAY)
    )
    assert found.best.offer == Offer(Commitment.SIX_MONTHS, 0.4 * FULL_USD, 0.6 * FULL_USD)
    assert [(row.start, row.end) for row in found.held] == [(0, 8), (8, 18), (18, 24)]
    assert 0 < found.base_units < found.held[1].units.mean
    costs = {one.offer.name: one.usd_per_hour.mean for one in found.offers}
    assert min(costs, key=lambda name: costs[name]) == "six months + by hours"
    told = sum((row.reserved_usd + row.spilled_usd) * (row.end - row.start) for row in found.held) / 24
    assert told == pytest.approx(found.best.chosen_usd_per_hour)
    assert found.grown[2].advised_usd == pytest.approx(told)
    assert found.grown[2].factor == 1.0


def test_sizing_for_the_95th_percentile_is_priced_beside_it() -> None:
    """A tenth of the minutes needs ten units, the others one: ten for all of them cost what they cost."""
    minutes = Minutes(calls(([1000.0] * 9 + [10000.0]) * 6 * 48), UNIT, PRICE)
    found = advice(minutes, terms({Commitment.NONE: 0.5}))
    assert (found.p95.units, found.held[0].units.mean) == (10, 1)
    assert found.p95.total_usd / found.alone_usd == pytest.approx(10 * 0.5 / 1.9, rel=1e-3)
    assert found.quantile_units == 1.0


def test_units_come_in_lots() -> None:
    """Bought five at a time, and the curve has no other numbers."""
    found = advice(Minutes(calls([12000.0] * 1440 * 2), UNIT, PRICE), terms({Commitment.NONE: 0.5}, lot=5))
    assert {point.units for point in found.curve} == {0, 5, 10, 15}
    assert found.held[0].units.mean == 10


def test_hours_that_were_not_seen_cannot_be_asked_for() -> None:
    """A day of record and `--schedule day`: refused, with what the record allows."""
    with pytest.raises(RouterError, match="this record allows flat"):
        advice(Minutes(calls([3000.0] * 1440), UNIT, PRICE), terms({Commitment.NONE: 0.5}, Pattern.DAY))


@pytest.mark.parametrize(
    ("minutes", "said"), [(1440, "know nothing of how days differ"), (1440 * 5, "less than two weeks")]
)
def test_thin_records_are_said_to_be(minutes: int, said: str) -> None:
    """Up to two weeks a warning stands first; from two weeks on there is none."""
    found, asked = Minutes(calls([3000.0] * minutes), UNIT, PRICE), terms({Commitment.NONE: 0.5})
    assert said in notes(found, asked, advice(found, asked))[0]
    enough = Minutes(calls([3000.0] * 1440 * 14), UNIT, PRICE)
    assert notes(enough, asked, advice(enough, asked)) == ()


def test_a_silent_day_and_an_early_commitment_are_pointed_at() -> None:
    """No call for a day may be an outage, and half a year on three weeks is a bet that is spelled out."""
    tokens = [3000.0] * 1440 * 9 + [0.0] * 1440 * 2 + [3000.0] * 1440 * 10
    made = calls(tokens)
    kept = made.input_tokens > 0.0
    silent = Calls(made.at_s[kept], made.input_tokens[kept], made.output_tokens[kept], whole_start=True)
    found, asked = Minutes(silent, UNIT, PRICE), terms({Commitment.SIX_MONTHS: 0.5})
    told = " ".join(notes(found, asked, advice(found, asked)))
    assert "No call for 48 hours from 2024-01-10 00:00 UTC" in told
    assert "six months on 21.0 days" in told


def test_less_than_an_hour_is_refused() -> None:
    """Sixty whole minutes are the least."""
    with pytest.raises(RouterError, match="whole minutes of demand: 59"):
        Minutes(calls([1.0] * 59), UNIT, PRICE)
    assert Minutes(calls([1.0] * 60), UNIT, PRICE).count == 60


def test_part_minutes_at_the_ends_of_a_log_are_left_out() -> None:
    """A log begins and ends in the middle of a minute; half a minute of demand is not a slow minute."""
    at = np.arange(0.0, 3600.0 * 2, 10.0) + 30.0
    found = Minutes(Calls(at, np.full(len(at), 100.0), np.zeros(len(at)), whole_start=False), UNIT, PRICE)
    assert set(found.all.units.tolist()) == {0.6}


def test_the_same_seed_gives_the_same_advice() -> None:
    """To the last figure."""
    found = Minutes(by_hour([1.0] * 12 + [6.0] * 12, 4), UNIT, PRICE)
    assert advice(found, terms({Commitment.NONE: 0.5})) == advice(found, terms({Commitment.NONE: 0.5}))


def test_offers_need_a_price_and_hours_need_one_without_commitment() -> None:
    """A commitment dearer than none is never put under hours."""
    names = [one.name for one in offers({Commitment.ONE_MONTH: 1.0}, Pattern.WEEK)]
    assert names == ["nothing reserved", "one month, all hours"]
    dear = offers({Commitment.NONE: 1.0, Commitment.ONE_MONTH: 2.0}, Pattern.DAY)
    assert [one.name for one in dear][-1] == "no commitment, by hours"
