"""How much is worth reserving: the quantile against brute force, one bound and two, and what a unit's use says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.newsvendor import Need, best_units, critical_ratio, need, taken_usd
from router.domain.deployment import Price, TokenQuota

UNIT = TokenQuota(1000.0, 200.0)
PRICE = Price(1.0, 4.0)
TOKENS = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 5_000)).map(lambda pair: (float(pair[0]), float(pair[1]))),
    min_size=1,
    max_size=40,
)


def demand(rows: list[tuple[float, float]]) -> Need:
    """Of (input, output) tokens by minute."""
    given_tokens, made = np.array(rows).T
    return need(given_tokens, made, UNIT, PRICE)


def cost(found: Need, units: float, usd: float) -> float:
    """All minutes together, reserved and on demand."""
    return units * usd * len(found.usd) + float((found.usd - taken_usd(found, units)).sum())


@settings(max_examples=200, deadline=None)
@given(TOKENS, st.floats(1e-5, 5e-3))
def test_no_number_of_units_costs_less_than_the_best(rows: list[tuple[float, float]], usd: float) -> None:
    """Against every kink of the cost curve, which is all that a minimum of it can be, and a grid between them."""
    found = demand(rows)
    least = cost(found, best_units(found, usd), usd)
    tried = [0.0, *found.units.tolist(), *np.linspace(0.0, float(found.units.max()) + 1.0, 50).tolist()]
    assert least <= min(cost(found, units, usd) for units in tried) + 1e-9


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.floats(1e-5, 5e-3))
def test_the_best_is_the_least_of_those_that_cost_the_same(rows: list[tuple[float, float]], usd: float) -> None:
    """Money that saves nothing is not committed: a little less costs more."""
    found = demand(rows)
    best = best_units(found, usd)
    if best:
        assert cost(found, best * (1.0 - 1e-6), usd) > cost(found, best, usd)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_where_one_bound_binds_demand_exceeds_the_best_for_the_price_ratio(ratio: float) -> None:
    """The textbook: P(D > C) = k, with k the price of a unit over what it serves on demand in full use."""
    tokens = np.random.default_rng(0).gamma(2.0, 5000.0, size=4001)
    found = need(tokens, np.zeros_like(tokens), UNIT, PRICE)
    usd = ratio * UNIT.input_tokens_per_min * PRICE.input_usd_per_mtok * 1e-6
    assert critical_ratio(found, usd) == pytest.approx(ratio)
    assert float((found.units > best_units(found, usd)).mean()) == pytest.approx(ratio, abs=1e-3)


def test_whichever_side_runs_out_first_binds() -> None:
    """A minute of 3,000 input and 1,000 output tokens needs 5 units for its output, and 2 units serve two fifths."""
    found = demand([(3000.0, 1000.0)])
    assert found.units.tolist() == [5.0]
    assert taken_usd(found, 2.0).tolist() == [pytest.approx(0.4 * found.usd[0])]
    assert taken_usd(found, 9.0).tolist() == [pytest.approx(found.usd[0])]


def test_a_unit_that_costs_more_than_its_tokens_is_never_bought() -> None:
    """At a price ratio of one and above the best is none; below it, on constant demand, all of it."""
    found = demand([(3000.0, 100.0)] * 10)
    full = float(found.usd_per_unit[0])
    assert best_units(found, full * 1.001) == 0.0
    assert best_units(found, full * 0.999) == 3.0


def test_no_demand_needs_nothing() -> None:
    """Idle minutes have no ratio and no units, and warn of no division."""
    idle = demand([(0.0, 0.0)] * 5)
    assert best_units(idle, 1e-4) == 0.0
    assert critical_ratio(idle, 1e-4) is None
    assert taken_usd(idle, 3.0).tolist() == [0.0] * 5
    assert best_units(Need(np.array([]), np.array([])), 1e-4) == 0.0


def test_more_calls_are_more_minutes_in_full_use() -> None:
    """Demand times a factor is taken over as far as the units go, at what it costs."""
    found = demand([(1000.0, 0.0), (4000.0, 0.0)])
    assert taken_usd(found, 2.0, factor=1.5).tolist() == pytest.approx([1.5e-3, 2e-3])
