"""A scenario is played by the daemon's dispatcher, and held against fixed settings on the same servers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from router.backends.simulated_fleet import deployments
from router.complexity.estimator import Scored
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import FloorUnderOverload
from router.routing.pickers import StaticThreshold
from router.routing.profile import baseline
from router.sim.recorded import RecordedEstimator
from router.sim.report import Ended, Served
from router.sim.run import Setting
from router.sim.run import play as run
from router.sim.scenarios.catalogue import SCENARIOS
from router.sim.scenarios.course import WINDOW_S
from router.sim.scenarios.fixed import Asked, FixedRun, FixedSetting
from router.sim.scenarios.hindsight import search
from router.sim.scenarios.play import Told, tell
from router.sim.scenarios.scenario import Phase, Scenario
from router.sim.scenarios.staging import Given, Stage, staged


class Nobody:
    """All estimates are recorded."""

    def estimate(self, request: Request) -> Scored:
        raise AssertionError(request.id)


def short(name: str, *, lasts_s: float = 12.0) -> Scenario:
    """A scenario of the catalogue in a hurry."""
    one = SCENARIOS[name]
    return replace(one, phases=tuple(replace(phase, lasts_s=lasts_s) for phase in one.phases))


def estimator(stage: Stage) -> RecordedEstimator:
    return RecordedEstimator(stage.workload, Nobody())


def fixed_run(stage: Stage) -> FixedRun:
    asked = [
        Asked(row.estimate["llama-3.1-8b"], stage.policies[stage.scenario.phase_at(row.at_s)].classes[0])
        for row in stage.workload.arrivals
    ]
    return FixedRun(stage.workload, asked, stage.fleet, deployments(stage.fleet), seed=stage.seed)


def useful(served: Sequence[Served]) -> int:
    return sum(bool(one.slo_met and one.adequate) for one in served)


@pytest.mark.parametrize("name", ["slowdown", "stale-telemetry", "slo-halved"])
def test_a_fixed_setting_meets_the_servers_that_the_dispatcher_meets(name: str) -> None:
    """Where both decide alike and at once, every request is answered by the same server in the same time, through
    slowdowns, the load of others and an edit of the objectives."""
    stage = staged(short(name), Given(seed=3))
    at_once = tuple(replace(p, bounds=replace(p.bounds, window_s=0.0)) for p in stage.policies)
    stage = replace(stage, policies=at_once)
    setting = Setting(stage.workload, stage.fleet, at_once[0], estimator(stage), seed=3, edits=stage.edits)
    theirs = run(setting, lambda _: baseline(StaticThreshold(0.6))).served
    no_limit = FixedSetting(small_from=0.6, small_limit=10_000, large_limit=10_000)
    ours = fixed_run(stage).play([(0.0, no_limit)])
    assert [one.deployment for one in ours] == [one.deployment for one in theirs]
    assert [one.ttft_s for one in ours] == pytest.approx([one.ttft_s for one in theirs], abs=1e-6)
    assert [one.tpot_s for one in ours] == pytest.approx([one.tpot_s for one in theirs], abs=1e-6)
    assert [one.slo_met for one in ours] == [one.slo_met for one in theirs]
    assert [one.adequate for one in ours] == [one.adequate for one in theirs]


def test_a_limit_bounds_what_is_in_flight_and_the_rest_is_shed() -> None:
    """With room for nothing all is shed; with room on one side only that side answers."""
    stage = staged(short("step"), Given())
    shed = fixed_run(stage).play([(0.0, FixedSetting(small_limit=0, large_limit=0))])
    assert {one.ended for one in shed} == {Ended.SHED}
    large = fixed_run(stage).play([(0.0, FixedSetting(small_limit=0, large_limit=4))])
    assert {one.deployment for one in large} == {"large", None}


def test_below_its_bound_small_never_answers() -> None:
    """Not even where large has no room."""
    stage = staged(short("step"), Given())
    served = fixed_run(stage).play([(0.0, FixedSetting(small_from=0.6, never_below=0.6, large_limit=2))])
    small = {int(one.request_id) for one in served if one.deployment == "small"}
    assert small
    assert all(stage.workload.arrivals[n].estimate["llama-3.1-8b"] >= 0.6 for n in small)


def test_long_prompts_go_to_small_first_where_length_weighs() -> None:
    """The same thresholds, another weight."""
    stage = staged(short("step"), Given())

    def tokens_on_large(weight: float) -> float:
        setting = FixedSetting(small_from=1.0, length_weight=weight, small_limit=999, large_limit=999)
        served = fixed_run(stage).play([(0.0, setting)])
        sizes = [stage.workload.arrivals[int(s.request_id)].input_tokens for s in served if s.deployment == "large"]
        return max(sizes)

    assert tokens_on_large(0.5) < tokens_on_large(0.0)


def test_a_call_that_a_server_loses_is_made_again_elsewhere() -> None:
    """Nothing fails while one of two is down."""
    stage = staged(short("lost"), Given())
    served = fixed_run(stage).play([(0.0, FixedSetting(small_limit=999, large_limit=999))])
    assert {one.ended for one in served} == {Ended.COMPLETED}
    begins = stage.scenario.begins_s
    during = [s for s, row in zip(served, stage.workload.arrivals, strict=True) if begins[1] <= row.at_s < begins[2]]
    assert {one.deployment for one in during} == {"small"}


def test_one_tenant_is_kept_to_its_part() -> None:
    """With a tenth for each the flood is shed, and more of the others' answers are useful."""
    stage = staged(short("flood", lasts_s=20.0), Given())
    rows = stage.workload.arrivals

    def of_others(ratio: float) -> int:
        setting = FixedSetting(small_limit=60, large_limit=30, tenant_ratio=ratio)
        served = fixed_run(stage).play([(0.0, setting)])
        return useful([s for s, row in zip(served, rows, strict=True) if row.tenant != "flood"])

    assert of_others(0.1) > of_others(1.0)


def test_hindsight_finds_settings_that_serve_each_phase_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the setting that it starts from, and with the floor kept where it must be."""
    monkeypatch.setattr("router.sim.scenarios.hindsight.SCATTERED", 12)
    monkeypatch.setattr("router.sim.scenarios.hindsight.PAIRS", 12)
    stage = staged(short("step", lasts_s=15.0), Given())
    play = fixed_run(stage)
    best = search(stage, play)
    assert useful(best.served) > useful(play.play([(0.0, FixedSetting())]))
    assert len(best.settings) == 3
    done = [one for one in best.served if one.ended is Ended.COMPLETED]
    assert sum(bool(one.adequate) for one in done) / len(done) >= 0.88


def test_hindsight_pays_for_a_floor_that_must_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under three times the load the floor costs useful answers, and is kept; where it may give, it gives."""
    monkeypatch.setattr("router.sim.scenarios.hindsight.SCATTERED", 20)
    monkeypatch.setattr("router.sim.scenarios.hindsight.PAIRS", 10)

    def found(policy: str) -> tuple[int, float]:
        heavy = Scenario("heavy", "", "", (Phase("start", 20.0, load=3.0),), policy)
        stage = staged(heavy, Given())
        served = search(stage, fixed_run(stage)).served
        done = [one for one in served if one.ended is Ended.COMPLETED]
        return useful(served), sum(bool(one.adequate) for one in done) / len(done)

    kept, gives = found(SCENARIOS["step"].policy), found(SCENARIOS["bursts"].policy)
    assert kept[1] >= 0.895 > gives[1]
    assert kept[0] < gives[0]


def test_where_the_floor_may_give_hindsight_sheds_nothing_for_it() -> None:
    """Its knob is left alone."""
    stage = staged(Scenario("calm", "", "", (Phase("start", 4.0),), SCENARIOS["bursts"].policy), Given())
    floor = stage.policies[0].classes[0].floor
    assert floor is not None
    assert floor.under_overload is FloorUnderOverload.DEGRADE
    assert search(stage, fixed_run(stage)).settings[0].never_below == 0.0


@pytest.fixture(scope="module")
def lost() -> Told:
    """The whole of a short scenario."""
    patch = pytest.MonkeyPatch()
    patch.setattr("router.sim.scenarios.hindsight.SCATTERED", 4)
    patch.setattr("router.sim.scenarios.hindsight.PAIRS", 4)
    stage = staged(short("lost", lasts_s=20.0), Given())
    told = tell(stage, estimator(stage))
    patch.undo()
    return told


def test_a_report_tells_what_befell(lost: Told) -> None:
    """While large is lost nothing goes there, and less is useful than before."""
    windows = [n for n, phase in enumerate(lost.ours.phases) if phase == 1]
    assert sum(lost.ours.went["large"][n] for n in windows) <= 3
    before, during = lost.phases[0].figures, lost.phases[1].figures
    assert before.useful is not None
    assert during.useful is not None
    assert during.useful < before.useful


def test_the_windows_of_a_report_hold_every_request_once(lost: Told) -> None:
    """What was offered is what went somewhere or was refused."""
    assert sum(lost.ours.offered) == lost.overall["offered"] == lost.figures.offered
    went = [sum(counts[n] for counts in lost.ours.went.values()) for n in range(len(lost.ours.offered))]
    assert all(g + r >= o for g, r, o in zip(went, lost.ours.refused, lost.ours.offered, strict=True))
    assert lost.ours.ends_s[-1] == lost.phases[-1].until_s


def test_a_report_and_the_totals_agree(lost: Told) -> None:
    """Useful answers, counted in windows and counted over all."""
    assert sum(lost.ours.useful) / lost.figures.offered == pytest.approx(lost.overall["useful"], abs=1e-6)
    lacking = sum(lost.best.useful) - sum(lost.ours.useful)
    assert lost.figures.regret == lacking
    assert lost.figures.regret_ratio == pytest.approx(lacking / sum(lost.best.useful), abs=1e-6)
    for number, phase in enumerate(lost.phases):
        inside = [n for n, other in enumerate(lost.ours.phases) if other == number]
        best, ours = (sum(side.useful[n] for n in inside) for side in (lost.best, lost.ours))
        assert phase.figures.regret_ratio == pytest.approx((best - ours) / best, abs=1e-6)


def test_the_same_seed_gives_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what was measured in real time."""
    monkeypatch.setattr("router.sim.scenarios.hindsight.SCATTERED", 3)
    monkeypatch.setattr("router.sim.scenarios.hindsight.PAIRS", 3)
    stage = staged(short("flood", lasts_s=5.0), Given(seed=2))
    parts: list[float] = []
    one, two = (
        msgspec.json.encode(replace(tell(stage, estimator(stage), parts.append), wall_s=0.0, decision_us={}))
        for _ in range(2)
    )
    assert one == two
    assert parts[-1] == 1.0
    assert max(parts) == 1.0


def test_every_scenario_is_there_and_has_a_way_back() -> None:
    """What the catalogue promises: eight, each with more than one phase, under six minutes, in whole windows."""
    assert list(SCENARIOS) == [
        "step",
        "slo-halved",
        "slowdown",
        "mix-drift",
        "stale-telemetry",
        "lost",
        "bursts",
        "flood",
    ]
    assert all(len(one.phases) > 1 and one.ends_s <= 360.0 for one in SCENARIOS.values())
    assert all(phase.lasts_s % WINDOW_S == 0.0 for one in SCENARIOS.values() for phase in one.phases)
    assert {p.down for p in SCENARIOS["lost"].phases} == {None, Tier.SMALL, Tier.LARGE}
