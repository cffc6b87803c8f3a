"""The price of a dollar: a stream stays within its budget, and spends where a dollar gains most."""

from __future__ import annotations

from random import Random

import pytest

from router.slo.budget import BudgetPrice, Pace
from router.slo.frontier import NEVER, Frontier

Row = tuple[list[float], list[float]]


def spend(budget: float, rows: int, seed: int, *, dearer: float = 1.0) -> tuple[float, float]:
    """Mean quality and cost over a stream of two models, 0.7 at 1 and 0.9 at about 10, where each request gains
    differently; `dearer` is what calls really cost over what is expected."""
    pacer, rng = BudgetPrice(budget), Random(seed)
    quality = spent = 0.0
    for _ in range(rows):
        gain, cost = rng.uniform(0.0, 0.4), rng.uniform(5.0, 15.0)
        price = pacer.offer([0.7, 0.7 + gain], [1.0, cost])
        large = gain - price * (cost - 1.0) > 0.0 and pacer.affords(cost)
        usd = dearer * (cost if large else 1.0)
        pacer.spend(usd)
        spent += usd
        quality += 0.7 + gain * large
    return quality / rows, spent / rows


@pytest.mark.parametrize("budget", [1.5, 3.0, 6.0, 9.0])
def test_the_budget_is_kept_used_and_well_spent(budget: float) -> None:
    """Whatever the budget: within 1 %, used to 95 %, and better than the straight mixture of the two models."""
    for seed in range(3):
        quality, cost = spend(budget, 900, seed)
        assert 0.95 * budget < cost <= 1.01 * budget
        assert quality > 0.7 + 0.2 * (cost - 1.0) / 9.0 + 0.01


def test_a_budget_is_kept_though_calls_cost_more_than_expected() -> None:
    """A fifth dearer than every forecast."""
    _, cost = spend(4.0, 900, 1, dearer=1.2)
    assert cost <= 1.01 * 4.0


def test_where_money_is_no_matter_the_price_is_zero() -> None:
    """A budget above the dearest model buys it wherever it gains."""
    pacer = BudgetPrice(100.0)
    assert pacer.offer([0.7, 0.9], [1.0, 10.0]) == 0.0


def rows(count: int, seed: int, models: int) -> list[Row]:
    rng = Random(seed)
    return [
        (
            [rng.uniform(0.3, 1.0) for _ in range(models)],
            [rng.choice([0.0, 1.0, rng.uniform(0, 20)]) for _ in "x" * models],
        )
        for _ in range(count)
    ]


def mean_cost(window: list[Row], price: float) -> float:
    """Of the best choice of each, the cheapest of equals."""
    best = (max(zip(*row, strict=True), key=lambda one: (one[0] - price * one[1], -one[1])) for row in window)
    return sum(cost for _, cost in best) / len(window)


@pytest.mark.parametrize("models", [1, 2, 3, 6])
def test_the_price_is_the_least_that_meets_the_mean(models: int) -> None:
    """Request by request over a sliding window, whatever is aimed at: at the price found the best choices cost no more
    than asked, a hair below it they cost more; and where nothing is cheap enough only the cost counts."""
    frontier, rng, seen = Frontier(50), Random(models), rows(400, models, models)
    priced = 0
    for i, (worth, cost) in enumerate(seen):
        frontier.add(worth, cost, worth)
        window = seen[max(i - 49, 0) : i + 1]
        aim = rng.uniform(0.0, 12.0)
        price, overruled = frontier.price(aim)
        assert not overruled
        if price == NEVER:
            assert sum(min(c) for _, c in window) / len(window) > aim
            continue
        assert mean_cost(window, price) <= aim + 1e-9
        if price:
            priced += 1
            assert mean_cost(window, price * (1.0 - 1e-6)) > aim - 1e-9
    assert priced > 50 or models == 1


def test_a_floor_stops_the_price() -> None:
    """Half of the adequacy that could be had must be left: the price goes no further, says so, and goes on as soon as
    the floor asks for less."""
    frontier = Frontier(400)
    for gain in range(1, 101):
        frontier.add([0.5, 0.5 + gain / 250], [1.0, 10.0], [0.5, 0.5 + gain / 250])
    price, overruled = frontier.price(2.0)
    free, held = price, frontier.price(2.0, 0.68)
    assert not overruled
    assert held[1]
    assert 0.0 < held[0] < free
    kept = sum(0.5 + gain / 250 * (gain / 250 > 9.0 * held[0]) for gain in range(1, 101)) / 100
    assert 0.68 <= kept < 0.69
    assert frontier.price(2.0) == (free, False)


def test_what_calls_cost_beyond_their_first_is_learned() -> None:
    """Every request ends half as dear again as its first call: a budget without debt, and the calls that it holds."""
    pacer, rng, spent = BudgetPrice(4.0, most_saved=50.0), Random(3), 0.0
    for _ in range(2000):
        gain, cost = rng.uniform(0.0, 0.4), rng.uniform(5.0, 15.0)
        pace, price = Pace(pacer), pacer.offer([0.7, 0.7 + gain], [1.0, cost])
        usd = cost if gain - price * (cost - 1.0) > 0.0 and cost <= pace.bears_usd else 1.0
        pace.on_decided(usd)
        pace.on_decided(100.0 * usd)
        pace.on_ended(1.5 * usd)
        spent += 1.5 * usd
    assert 0.98 * 4.0 < spent / 2000 <= 1.005 * 4.0
    assert pacer.dearer == pytest.approx(1.5, abs=0.02)
    assert pacer.mean_usd == pytest.approx(4.0, rel=0.1)


def test_a_restart_goes_on_where_it_was() -> None:
    """What is saved and the price survive; with an empty window the price stays until there are requests again."""
    pacer, rng = BudgetPrice(4.0, most_saved=50.0), Random(4)
    for _ in range(300):
        pacer.offer([0.7, 0.7 + rng.uniform(0.0, 0.4)], [1.0, 10.0])
        pacer.spend(3.0)
    again = BudgetPrice(4.0, most_saved=50.0)
    again.restore(pacer.state())
    assert again.state() == pacer.state()
    assert again.saved_usd == 200.0, "no more is kept than may be"
    assert again.offer([0.7, 0.71], [1.0, 10.0]) == pacer.value
    with pytest.raises(ValueError, match="not one"):
        again.restore([float("nan"), 0.0, 0.0, 0.0, 0.0])
