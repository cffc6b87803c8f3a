"""Two policies over the same arrivals: figures, pairs, intervals and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from msgspec.structs import replace

from router.sim.beside.compare import compare, over_seeds
from router.sim.beside.resample import TimeBlocks
from router.sim.report import Ended, Served, report
from router.sim.run import Played

ARRIVALS = [0.5 * number for number in range(2400)]


def served(number: int, **fields: object) -> Served:
    told = {"slo_met": True, "adequate": True, "ttft_s": 0.2, "tpot_s": 0.02, "e2e_s": 2.0, "cost_usd": 1e-3, **fields}
    return Served(str(number), "chat", Ended.COMPLETED, deployment="small", **told)  # type: ignore[arg-type]


def played(make: Callable[[int], Served], count: int = len(ARRIVALS)) -> Played:
    all_served = tuple(make(number) for number in range(count))
    return Played(all_served, report(all_served, (), lasted_s=1200.0))


def noisy(seed: int, missed: float) -> Callable[[int], Served]:
    """Some miss their promise, in bursts of a minute that depend on the arrivals and not on the policy."""

    def make(number: int) -> Served:
        burst = Random(f"burst/{number // 120}").random()
        bad = Random(f"{seed}/{number}").random() < missed + 0.3 * (burst < 0.2)
        return served(number, slo_met=not bad, ttft_s=0.2 + 0.4 * bad)

    return make


def test_the_same_runs_differ_in_nothing() -> None:
    """Every difference is 0, and none is called clear."""
    run = played(noisy(1, 0.1))
    compared = compare(ARRIVALS, [run], [run])
    for figure in compared.overall.figures.values():
        assert (figure.difference, figure.over_time, figure.clear) == (0.0, (0.0, 0.0), "")


def test_figures_are_those_of_the_report() -> None:
    """Useful, SLO, adequacy, cost and quantiles of each side are what `router simulate` reports."""
    run = played(lambda n: noisy(1, 0.1)(n) if n % 3 else replace(served(n), adequate=False, cost_usd=4e-3))
    compared = compare(ARRIVALS, [run], [played(noisy(1, 0.1))])
    overall = run.report["overall"]
    assert isinstance(overall, dict)
    figures = compared.overall.figures
    for name in ("useful", "slo_met", "adequate_of_served", "cost_per_1k_usd"):
        assert figures[name].old == pytest.approx(overall[name], abs=1e-5)
    assert figures["ttft_p95_s"].old == pytest.approx(overall["ttft_s"]["p95"])


def test_a_real_gain_is_clear_and_the_direction_is_right() -> None:
    """Fewer misses are better for the SLO and for the time to the first token; the other way round they are worse."""
    few, many = played(noisy(1, 0.05)), played(noisy(2, 0.15))
    better, worse = (compare(ARRIVALS, *sides).overall.figures for sides in (([many], [few]), ([few], [many])))
    assert (better["slo_met"].clear, worse["slo_met"].clear) == ("better", "worse")
    assert better["slo_met"].difference == pytest.approx(0.1, abs=0.03)
    assert worse["useful"].clear == "worse"


def test_chance_alone_is_seldom_called_clear() -> None:
    """Two policies that differ by chance only, in bursts: of twenty-five such pairs at most five are called clear."""
    called = 0
    for number in range(25):
        one, other = played(noisy(2 * number, 0.1), 1200), played(noisy(2 * number + 1, 0.1), 1200)
        figure = compare(ARRIVALS[:1200], [one], [other]).overall.figures["slo_met"]
        called += figure.clear != ""
    assert called <= 5


def test_bursts_widen_the_interval() -> None:
    """Blocks keep together what comes together: misses in bursts leave more doubt than as many misses strewn."""
    bursts = played(lambda n: served(n, slo_met=n // 60 % 10 != 0))
    strewn = played(lambda n: served(n, slo_met=n % 10 != 0))
    none = played(served)

    def width(run: Played) -> float:
        interval = compare(ARRIVALS, [none], [run]).overall.figures["slo_met"].over_time
        assert interval is not None
        return interval[1] - interval[0]

    assert width(bursts) > 3.0 * width(strewn)


def test_resampling_is_seeded() -> None:
    """The same runs give the same intervals."""
    sides = [played(noisy(1, 0.1))], [played(noisy(2, 0.12))]
    assert compare(ARRIVALS, *sides) == compare(ARRIVALS, *sides)


def test_a_resample_is_as_long_as_the_span() -> None:
    """Each draws whole blocks until they are as long as the span, and every cell is drawn as often as any other."""
    blocks = TimeBlocks(ARRIVALS)
    assert (blocks.told.block_s, blocks.told.blocks) == (60.0, 20)
    assert set(blocks.weights.sum(axis=1)) == {200.0}
    assert blocks.weights.mean(axis=0) == pytest.approx(np.ones(blocks.cells), abs=0.2)
    assert TimeBlocks(ARRIVALS[:60]).told.block_s == pytest.approx(29.5 / 10)
    assert TimeBlocks([5.0]).told.resamples == 0


@pytest.mark.parametrize(
    ("differences", "interval"), [([1.0, 2.0, 3.0], (-0.484, 4.484)), ([2.0, 2.0], (2.0, 2.0)), ([1.0], None)]
)
def test_the_interval_over_seeds_is_students(
    differences: Sequence[float], interval: tuple[float, float] | None
) -> None:
    """t(2 degrees, .975) = 4.303; one seed has none, and seeds that came out alike have one of no width."""
    found = over_seeds(differences)
    assert found == (None if interval is None else pytest.approx(interval, abs=1e-3))


def test_seeds_that_disagree_make_nothing_clear() -> None:
    """A gain in one seed and a loss in another is no clear difference, however sure each is by itself."""
    gain, loss, base = played(noisy(1, 0.01)), played(noisy(1, 0.25)), played(noisy(1, 0.1))
    figure = compare(ARRIVALS, [base, base], [gain, loss]).overall.figures["slo_met"]
    assert figure.over_seeds is not None
    assert figure.over_seeds[0] < 0 < figure.over_seeds[1]
    assert figure.clear == ""


def test_classes_are_compared_by_name_also_where_their_requests_differ() -> None:
    """Each side counts those that fall in the class under its own policy; a class of one side only has no
    difference."""

    def named(name: str, every: int) -> Played:
        return played(lambda n: replace(served(n), request_class=name if n % every == 0 else "rest"))

    compared = compare(ARRIVALS, [named("chat", 2)], [named("chat", 4)])
    assert compared.by_class["chat"].offered == (1200, 600)
    assert compared.by_class["chat"].figures["slo_met"].difference == 0.0
    alone = compare(ARRIVALS, [named("old", 2)], [named("new", 2)]).by_class["old"].figures["slo_met"]
    assert (alone.old, alone.new, alone.difference, alone.clear) == (1.0, None, None, "")


def test_what_has_no_truth_has_no_useful_share() -> None:
    """Adequacy that nobody knows is not taken for inadequacy."""
    blind = played(lambda n: replace(served(n), adequate=None))
    figures = compare(ARRIVALS, [blind], [blind]).overall.figures
    assert figures["useful"].old is figures["adequate_of_served"].old is None
    assert figures["slo_met"].old == 1.0


def test_reserved_capacity_is_in_the_cost_of_all() -> None:
    """What is paid by the hour belongs to no request, and yet to the whole."""
    plain = played(served)
    overall = plain.report["overall"]
    assert isinstance(overall, dict)
    paid = Played(plain.served, {**plain.report, "overall": {**overall, "cost_usd": overall["cost_usd"] + 2.4}})
    figure = compare(ARRIVALS, [plain], [paid]).overall.figures["cost_per_1k_usd"]
    assert figure.difference == pytest.approx(1.0)
    assert figure.clear == "worse"
