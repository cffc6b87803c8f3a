"""Batch sizes and waits: what the curve learns, and what the tuner makes of it."""

from __future__ import annotations

import math
from random import Random

import pytest

from router.control.batch_curve import BatchCurve
from router.control.batching import BatchTuner
from router.domain.control.batches import Start
from router.domain.deployment import BatchProfile

BASE_S, EACH_S = 0.030, 0.002
SLO_S = 0.25


def curve() -> BatchCurve:
    return BatchCurve(BatchProfile(BASE_S, EACH_S))


def taught(sizes: list[int], *, slower: float = 1.0, noise: float = 0.0, begin: float = 0.0) -> BatchCurve:
    """A curve after these batches, a tenth of a second apart."""
    learned = curve()
    teach(learned, sizes, slower=slower, noise=noise, begin=begin)
    return learned


def teach(learned: BatchCurve, sizes: list[int], *, slower: float, noise: float = 0.0, begin: float = 0.0) -> None:
    rng = Random(1)
    for i, items in enumerate(sizes):
        takes = slower * (BASE_S + EACH_S * items) * math.exp(rng.gauss(0.0, noise))
        learned.observe(items, takes, now=begin + 0.1 * i)


def tuner(rate: float = 0.0, *, max_items: int = 128, settled: bool = True) -> BatchTuner:
    """A tuner at a steady rate of arrivals up to second 10, after enough batches to trust its curve."""
    made = BatchTuner(BatchProfile(BASE_S, EACH_S), max_items=max_items)
    if settled:
        teach(made.curve, [5, 10] * 150, slower=1.0, begin=-20.0)
    for i in range(round(30 * rate)):
        made.arrived(now=-20.0 + (i + 1) / rate)
    return made


def test_two_batches_at_twice_the_time_are_a_slowdown_and_two_at_the_old_pace_its_end() -> None:
    """The change is followed at once, there and back; within two percent."""
    learned = taught([10] * 100)
    teach(learned, [12, 9], slower=2.0, begin=10.0)
    assert learned.expected_s(20) == pytest.approx(2.0 * 0.07, rel=0.02)
    teach(learned, [9, 8], slower=1.0, begin=11.0)
    assert learned.expected_s(20) == pytest.approx(0.07, rel=0.02)


def test_one_stall_is_no_slowdown() -> None:
    """A single batch that took forty times as long moves neither the median much nor the quantile."""
    learned = taught([10] * 100)
    margin = learned.margin
    learned.observe(10, 2.0, now=10.1)
    teach(learned, [10] * 5, slower=1.0, begin=10.2)
    assert learned.expected_s(10) == pytest.approx(0.05, rel=0.12)
    assert learned.margin < margin * 1.3


def test_the_quantile_is_that_of_the_residuals() -> None:
    """Of noisy batches about 99 % stay under it; of exact ones it is next to the median."""
    learned, rng, under = taught([10, 20] * 200, noise=0.2), Random(2), 0
    for i in range(2000):
        takes = (BASE_S + EACH_S * 15) * math.exp(rng.gauss(0.0, 0.2))
        under += takes <= learned.upper_s(15)
        learned.observe(15, takes, now=40.0 + 0.1 * i)
    assert 0.975 <= under / 2000 <= 0.998
    exact = taught([10, 20] * 200)
    assert exact.upper_s(15) < 1.02 * exact.expected_s(15)


def test_a_stretch_of_single_items_does_not_make_it_forget_what_many_take() -> None:
    """A thousand noisy batches of one teach nothing about a batch of hundred, and the first one of hundred finds the
    prediction near: a fit that forgets locks in on the size that it runs."""
    learned = taught([1, 40, 80] * 50)
    teach(learned, [1] * 1000, slower=1.0, noise=0.1, begin=20.0)
    assert learned.expected_s(100) == pytest.approx(0.23, rel=0.15)


def test_slowness_is_forgotten_in_silence() -> None:
    """An endpoint that was ten times slower and got no more batches is thought healthy again within a minute."""
    learned = taught([10] * 30, slower=10.0)
    assert learned.expected_s(10) > 0.4
    for beat in range(600):
        learned.relax(now=3.0 + 0.1 * beat)
    assert learned.expected_s(10) < 0.06


def test_a_batch_that_takes_no_time_teaches_without_harm() -> None:
    """A clock that did not move is no infinite speed."""
    learned = curve()
    for i in range(50):
        learned.observe(4, 0.0, now=float(i))
    assert 0.0 < learned.expected_s(4) < 1.0


def test_it_finds_the_figures_of_an_endpoint_that_nobody_described() -> None:
    """Without a profile, after two hundred batches of several sizes, sizes in between are predicted within a tenth."""
    learned, rng = BatchCurve(None), Random(3)
    for i in range(200):
        items = rng.choice((1, 4, 16, 64))
        learned.observe(items, 0.5 + 0.02 * items, now=0.2 * i)
    assert learned.expected_s(32) == pytest.approx(1.14, rel=0.1)


def test_the_size_is_all_that_keeps_the_oldest_in_time() -> None:
    """One more would be late by the 99 % quantile."""
    batch = tuner(60.0)
    lost, size = batch.cut([0.2] * 200, now=10.0)
    assert lost == 0
    assert 1 < size < 128
    assert batch.upper_s(size) <= 0.2 < batch.upper_s(size + 1)


def test_the_tightest_slack_binds_whichever_class_it_is_of() -> None:
    """One item with little time left holds back those who have plenty, or nothing promised."""
    batch = tuner(60.0)
    _, size = batch.cut([0.06, 0.5, 0.5, *[math.inf] * 50], now=10.0)
    assert batch.upper_s(size) <= 0.06 < batch.upper_s(size + 1)


@pytest.mark.parametrize("rate", [60.0, 220.0, 400.0])
def test_a_batch_is_never_held_under_the_stability_batch(rate: float) -> None:
    """Where the oldest would hold the batch under it, the oldest is given up, and the batch is as large as the arrival
    rate asks for, or all there is."""
    batch = tuner(rate)
    stable = rate * BASE_S / (1.0 - rate * EACH_S)
    waiting = [0.036 + 0.004 * i for i in range(120)]
    lost, size = batch.cut(waiting, now=10.0)
    assert batch.stable_items(now=10.0) == pytest.approx(stable, rel=0.2, abs=1.0)
    assert size >= min(batch.stable_items(now=10.0), 120 - lost)
    assert batch.upper_s(min(size, 120 - lost)) <= waiting[lost] + 0.002
    assert lost == 0 or batch.expected_s(size) > waiting[lost - 1]


def test_a_rate_above_capacity_asks_for_all_that_fits() -> None:
    """There is no stable batch then: the largest is the least bad."""
    assert tuner(600.0).stable_items(now=10.0) == 128


def test_who_is_likelier_in_time_than_not_is_not_given_up() -> None:
    """A noisy endpoint has a far quantile; an item that the median would serve rides along."""
    noisy = BatchTuner(BatchProfile(BASE_S, EACH_S), max_items=128)
    teach(noisy.curve, [10] * 300, slower=1.0, noise=0.3)
    assert noisy.upper_s(3) > 1.5 * noisy.expected_s(3)
    slacks = [1.2 * noisy.expected_s(3)] * 3
    assert noisy.cut(slacks, now=31.0) == (0, noisy.cut(slacks, now=31.0)[1])
    assert noisy.cut(slacks, now=31.0)[1] >= 3


def test_a_far_quantile_does_not_make_batches_small() -> None:
    """Where 99 % are safe only in a batch under the stability batch, the stability batch is run, and nobody is given
    up who is likelier in time than not."""
    noisy = tuner(220.0, settled=False)
    teach(noisy.curve, [10] * 300, slower=1.0, noise=0.3, begin=-20.0)
    stable = noisy.stable_items(now=10.0)
    slack = 1.3 * noisy.expected_s(stable)
    assert noisy.upper_s(stable) > slack
    assert noisy.cut([slack] * 40, now=10.0) == (0, stable)


def test_when_nobody_can_be_in_time_all_are_lost() -> None:
    """And the batch may hold what fits: those who are served late all the same should not wait for one another."""
    assert tuner(60.0).cut([-1.0, 0.0, 0.02], now=10.0) == (3, 128)


def test_it_waits_until_the_slack_of_the_tightest_is_used_up() -> None:
    """Less the time in which one more is expected, so that the last wait is not in vain."""
    batch = tuner(60.0)
    at, why = batch.start(5, due=10.0 + 0.2, span_s=SLO_S, until=math.inf, now=10.0)
    assert why is Start.SPARSE
    assert at == pytest.approx(10.2 - batch.upper_s(6) - 1.0 / 60.0, abs=0.004)
    assert batch.start(5, due=10.04, span_s=SLO_S, until=math.inf, now=10.0)[1] is Start.SLACK


def test_it_does_not_wait_for_what_saves_next_to_nothing() -> None:
    """At two a second one endpoint is idle anyway; and no batch waits for its thirtieth item at sixty."""
    assert tuner(0.2).start(1, due=20.0, span_s=10.0, until=math.inf, now=10.0) == (10.0, Start.ENOUGH)
    assert tuner(60.0).start(30, due=20.0, span_s=10.0, until=math.inf, now=10.0) == (10.0, Start.ENOUGH)
    assert tuner(settled=False).start(1, due=20.0, span_s=10.0, until=math.inf, now=10.0) == (10.0, Start.ENOUGH)


def test_it_does_not_wait_for_a_batch_that_would_make_the_next_late() -> None:
    """Twice slower at 120 a second: those who come during a larger batch could not be in time after it."""
    batch = tuner(120.0)
    teach(batch.curve, [14] * 10, slower=2.0, begin=10.0)
    assert batch.start(14, due=10.0 + 0.24, span_s=SLO_S, until=math.inf, now=10.0) == (10.0, Start.NEXT_BATCH)
    assert batch.start(14, due=10.0 + 0.24, span_s=1.0, until=math.inf, now=10.0)[0] > 10.0


def test_what_the_policy_allows_bounds_the_wait() -> None:
    """A bound that is over ends it, also where nothing is promised; without promise or bound there is none."""
    batch = tuner(60.0)
    assert batch.start(5, due=10.2, span_s=SLO_S, until=10.01, now=10.0) == (10.01, Start.BOUND)
    assert batch.start(5, due=None, span_s=math.inf, until=10.4, now=10.0) == (10.4, Start.BOUND)
    assert batch.start(5, due=None, span_s=math.inf, until=math.inf, now=10.0) == (10.0, Start.AT_ONCE)
    assert batch.start(128, due=None, span_s=math.inf, until=10.4, now=10.0) == (10.0, Start.FULL)


def test_who_joins_waits_for_what_is_left_of_the_running_batch() -> None:
    """Its remaining time, then all who wait in one batch; an overdue one is expected to take as long again as it is
    overdue; beyond what fits, whole batches go first."""
    batch = tuner(max_items=16)
    own = batch.expected_s(4)
    assert batch.wait_s(3, now=10.0) == pytest.approx(own)
    batch.begun(10, now=10.0)
    takes = batch.expected_s(10)
    assert batch.wait_s(13, now=10.03) == pytest.approx(takes - 0.03 + own)
    assert batch.wait_s(13, now=10.0 + takes + 1.0) == pytest.approx(1.0 + own)
    assert batch.wait_s(10 + 16 + 3, now=10.0) == pytest.approx(takes + batch.expected_s(16) + own)


def test_a_failed_batch_teaches_nothing_and_a_given_up_one_that_it_is_slow() -> None:
    """At least as long as it ran; less than expected says nothing."""
    batch = tuner()
    before = batch.expected_s(10)
    batch.begun(10, now=10.0)
    batch.ended(None, now=15.0)
    batch.begun(10, now=15.0)
    batch.given_up(now=15.01)
    assert batch.expected_s(10) == before
    batch.begun(10, now=16.0)
    batch.given_up(now=19.0)
    assert batch.expected_s(10) > before
