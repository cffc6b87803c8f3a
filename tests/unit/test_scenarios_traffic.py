"""A scenario's requests come as its phases say."""

from __future__ import annotations

from itertools import takewhile
from random import Random
from statistics import fmean

import pytest

from router.backends.simulated_events import NS_PER_S, PoissonArrivals
from router.domain.deployment import Tier
from router.domain.errors import PolicyError, WorkloadError
from router.ports.load import ScrapedLoad
from router.sim.scenarios.catalogue import FLEET, SCENARIOS
from router.sim.scenarios.scenario import FLOODING
from router.sim.scenarios.staging import Given, Stage, staged
from router.sim.scenarios.telemetry import Delayed
from router.sim.scenarios.traffic import Bursts, Piece, Source, bursty, estimated, laid_along
from router.sim.workload import Arrival, Workload

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"


def rows(stage: Stage, phase: int) -> list[Arrival]:
    begins = stage.scenario.begins_s
    return [row for row in stage.workload.arrivals if begins[phase] <= row.at_s < begins[phase + 1]]


def trace(count: int = 3000) -> Workload:
    """Two requests at once each second."""
    quality = {SMALL: 1.0, LARGE: 1.0}
    return Workload(tuple(Arrival(float(n // 2), 100 + n, 10, quality=quality) for n in range(count)))


def test_a_process_of_unit_rate_is_stretched_to_the_rate_of_each_piece() -> None:
    """Two a second, then none, then four a second."""
    pieces = [Piece(0.0, 2.0, 2.0), Piece(2.0, 10.0, 0.0), Piece(10.0, 11.0, 4.0)]
    assert laid_along(iter([0.5, 1.0, 3.9, 4.0, 6.0, 7.9, 8.0]), pieces) == pytest.approx(
        [0.25, 0.5, 1.95, 10.0, 10.5, 10.975]
    )


def test_bursts_keep_the_mean_rate() -> None:
    """Two turns of off and on; while it is on, as much more comes as nothing comes while it is off."""
    assert list(bursty(Piece(10.0, 70.0, 5.0), Bursts(10.0, 20.0))) == [
        Piece(10.0, 30.0, 0.0),
        Piece(30.0, 40.0, 15.0),
        Piece(40.0, 60.0, 0.0),
        Piece(60.0, 70.0, 15.0),
    ]


def test_the_recorded_estimator_is_calibrated_on_what_it_believes() -> None:
    """Of the prompts that it gives 0.5 to 0.7, about as many are adequate as it says on average."""
    rng = Random(3)
    truth = [rng.random() >= 0.4 for _ in range(40_000)]
    said = [(estimated(adequate, 0.4, rng), adequate) for adequate in truth]
    middle = [(p, adequate) for p, adequate in said if 0.5 <= p < 0.7]
    assert fmean(p for p, _ in middle) == pytest.approx(fmean(adequate for _, adequate in middle), abs=0.02)
    auc = fmean(
        a > b
        for (a, _), (b, _) in zip(
            *(takewhile(bool, [one for one in said if one[1] is kind][:9000]) for kind in (True, False)), strict=False
        )
    )
    assert auc == pytest.approx(0.75, abs=0.02)


def test_the_load_triples_and_falls_back() -> None:
    """`step`: 5.5 a second, 16.5, 5.5."""
    stage = staged(SCENARIOS["step"], Given())
    rates = [len(rows(stage, n)) / p.lasts_s for n, p in enumerate(stage.scenario.phases)]
    assert rates == pytest.approx([5.5, 16.5, 5.5], rel=0.15)


def test_the_mix_drifts_while_the_estimator_believes_the_old_one() -> None:
    """`mix-drift`: harder and longer at the end, with estimates that were calibrated at the start."""
    stage = staged(SCENARIOS["mix-drift"], Given())
    first, last = rows(stage, 0), rows(stage, 2)
    assert fmean(r.quality[SMALL] for r in first) == pytest.approx(0.7, abs=0.06)
    assert fmean(r.quality[SMALL] for r in last) == pytest.approx(0.45, abs=0.06)
    assert fmean(r.estimate[SMALL] for r in last) > fmean(r.quality[SMALL] for r in last) + 0.08
    assert fmean(r.input_tokens for r in last) > fmean(r.input_tokens for r in first)


def test_the_flood_is_one_tenant_more() -> None:
    """`flood`: the others go on as before."""
    stage = staged(SCENARIOS["flood"], Given())
    flooding = [sum(row.tenant == FLOODING for row in rows(stage, n)) for n in range(3)]
    others = [len(rows(stage, n)) - flooding[n] for n in range(3)]
    assert flooding[0] == flooding[2] == 0
    assert flooding[1] / 75.0 == pytest.approx(22.0, rel=0.1)
    assert others[1] / 75.0 == pytest.approx(5.5, rel=0.2)


def test_objectives_are_halved_by_an_edit_and_restored_by_another() -> None:
    """`slo-halved`: two edits, the second back to the first policy."""
    stage = staged(SCENARIOS["slo-halved"], Given())
    (first_s, halved), (second_s, restored) = stage.edits
    ttft = halved.classes[0].objectives.ttft
    assert ttft is not None
    assert (first_s, ttft.threshold_s) == (60.0, 0.25)
    assert (second_s, restored.digest) == (150.0, stage.policies[0].digest)


def test_what_befalls_a_tier_befalls_its_deployments() -> None:
    """`slowdown` and `lost`, in the seconds of their phases."""
    slow = staged(SCENARIOS["slowdown"], Given()).fleet.events
    assert [(e.at_s, e.until_s, e.deployment, e.slowdown) for e in slow] == [(60.0, 150.0, "large", 2.0)]
    lost = staged(SCENARIOS["lost"], Given()).fleet.events
    assert [(e.deployment, e.down) for e in lost] == [("large", True), ("small", True)]


def test_a_trace_lends_its_gaps_and_its_requests() -> None:
    """In order, at the scenario's rate; pairs stay pairs."""
    stage = staged(SCENARIOS["step"], Given(trace=trace()))
    arrivals = stage.workload.arrivals
    assert [row.input_tokens for row in arrivals[:4]] == [100, 101, 102, 103]
    assert arrivals[0].at_s == arrivals[1].at_s < arrivals[2].at_s
    assert len(rows(stage, 1)) / 120.0 == pytest.approx(16.5, rel=0.02)


def test_a_short_trace_begins_again() -> None:
    """The scenario is as long as it is."""
    stage = staged(SCENARIOS["step"], Given(trace=trace(50)))
    assert stage.workload.arrivals[-1].at_s > 265.0


def test_a_trace_cannot_stand_for_a_changing_mix() -> None:
    """It is refused, with what to do."""
    with pytest.raises(WorkloadError, match="leave --workload out"):
        staged(SCENARIOS["mix-drift"], Given(trace=trace()))


def test_a_trace_without_truth_is_refused() -> None:
    """Nobody could say what was useful."""
    with pytest.raises(WorkloadError, match=r"row 1 has no quality\.llama-3\.1-8b"):
        Source(Workload((Arrival(0.0, 1, 1), Arrival(1.0, 1, 1))), (SMALL, LARGE), seed="0")


def test_a_fleet_of_one_tier_is_refused() -> None:
    """There is nothing to choose between."""
    only = type(FLEET)(tuple(d for d in FLEET.deployments if d.tier is Tier.LARGE))
    with pytest.raises(PolicyError, match="needs a small deployment"):
        staged(SCENARIOS["step"], Given(fleet=only))


def test_the_same_seed_gives_the_same_requests_and_another_gives_others() -> None:
    """Seeded by number and scenario."""
    one, same, other = (staged(SCENARIOS["bursts"], Given(seed=s)).workload for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_load_of_others_comes_by_turns() -> None:
    """On for two seconds, off for three, at its rate while it is on; without a pause as ever."""
    by_turns = PoissonArrivals(50.0, "seed", on_s=2.0, off_s=3.0)
    times = [ns / 1e9 for ns in by_turns.take(100 * NS_PER_S)]
    assert all(at % 5.0 < 2.0 for at in times)
    assert len(times) / 40.0 == pytest.approx(50.0, rel=0.1)
    first, ever = (PoissonArrivals(50.0, "seed", on_s=2.0, off_s=off).take(NS_PER_S) for off in (3.0, 0.0))
    assert first == ever


def test_telemetry_is_held_back_as_long_as_it_is_said() -> None:
    """One second at first, none from the tenth second on; before anything is old enough nothing is told."""
    delayed, seen = Delayed(((0.0, 1.0), (10.0, 0.0)), 100.0), []
    for tick in range(24):
        now = 100.0 + tick * 0.5
        told = delayed.through((ScrapedLoad("a", tick, 0, None, now),), now)
        seen.append(told[0].running if told else None)
    assert seen[:4] == [None, None, 0, 1]
    assert seen[19:22] == [17, 20, 21]


def test_telemetry_goes_through_where_no_lag_is_said() -> None:
    """As it is."""
    loads = (ScrapedLoad("a", 1, 0, None, 0.0),)
    assert Delayed((), 0.0).through(loads, 5.0) is loads
