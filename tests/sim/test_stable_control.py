"""Automatic changes do no harm: the loop closed, on the virtual clock, in the daemon's dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from bench.fleets import SMALL_LARGE
from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.domain.control.stability import CoverageChanged, KnowledgeChanged, TuningChanged
from router.domain.deployment import LimitKind, LimitTerms, Mode, Tier
from router.domain.events import CeilingUpdate, DecisionMade, Event, HealthChanged, LimitUpdate, PriceUpdate
from router.domain.request import Request
from router.domain.slo import FloorUnderOverload, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.scenarios.measures import flips, per_minute, trailing
from router.sim.workload import Arrival, Workload

PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
SHARED = SMALL_LARGE.replace(
    "    tier:", "    background: {requests_per_s: 4, input_tokens: 900, output_tokens: 150}\n    tier:"
)


class Halves:
    """The small model is thought adequate for .85 of one half of the prompts and .3 of the other."""

    def estimate(self, request: Request) -> Scored:
        p = 0.3 if int(request.id) % 2 else 0.85
        return Scored(1 - p, "chat", {}, {Tier.SMALL: p, Tier.LARGE: 0.98})


def workload(seconds: float, per_s: float, *, seed: int = 1) -> Workload:
    rng, now, rows = Random(seed), 0.0, []
    while now < seconds:
        rows.append(Arrival(now, rng.randint(200, 1500), rng.randint(50, 250)))
        now += rng.expovariate(per_s)
    return Workload(tuple(rows))


def setting(
    arrivals: Workload,
    fleet: str = SMALL_LARGE,
    *,
    mode: Mode = Mode.ACT,
    limit: LimitTerms | None = None,
    lags: tuple[tuple[float, float], ...] = (),
) -> Setting:
    spec = read_fleet(fleet)
    listed = tuple(replace(d, mode=mode, limit=limit or d.limit) for d in deployments(spec))
    floor = QualityFloor(0.9, under_overload=FloorUnderOverload.DEGRADE)
    request_class = RequestClass("all", objectives=PROMISE, floor=floor, sheddable=True, mode=mode)
    policy = Policy("test", (request_class,), listed, usd_per_useful=1.0)
    return Setting(arrivals, spec, policy, Halves(), telemetry_lags=lags)


class Played:
    """A world that is over, with what it told and when."""

    def __init__(self, what: Setting, meddle: Callable[[World], None] | None = None, meddle_at: float = 0.0) -> None:
        self.told: list[tuple[float, Event]] = []

        async def scene() -> World:
            world = World(what, None, None)
            gather = world.emit

            def emit(event: Event) -> None:
                self.told.append((world.now(), event))
                gather(event)

            world.emit = emit  # type: ignore[method-assign]
            if meddle is not None:
                asyncio.get_running_loop().call_later(meddle_at, meddle, world)
            await world.run()
            return world

        self.world = run_virtual(scene())
        self.useful = sum(s.slo_met for s in self.world.served) / len(self.world.served)

    def of(self, *kinds: type[Event]) -> list[tuple[float, Any]]:
        return [(at, event) for at, event in self.told if isinstance(event, kinds)]

    def in_slo(self, what: Setting, begin: float, end: float) -> float:
        """Share of what arrived meanwhile that kept its promises."""
        rows = what.workload.arrivals
        kept = [s.slo_met for s in self.world.served if begin <= rows[int(s.request_id)].at_s < end]
        return sum(kept) / len(kept)


@pytest.mark.parametrize(("per_s", "least"), [(5.0, 0.83), (14.0, 0.76)])
def test_the_ninety_percent_interval_covers_about_ninety_percent(per_s: float, least: float) -> None:
    """Of TTFT and TPOT on either server at a load that they carry, and nothing is told of it. At one that is too much,
    where the pace of a call is known when it is over and no longer holds, not less than three quarters."""
    played = Played(setting(workload(240.0, per_s)))
    for member in played.world.controller.fleet.members.values():
        for what, coverage in member.scores.kinds:
            if coverage.scored >= 200:
                assert least <= coverage.ratio <= 0.96, (member.deployment.name, what)
    assert per_s > 5.0 or played.of(CoverageChanged) == []


def cut(world: World) -> None:
    """From here on a tuner gone wrong holds the limits of both servers at two calls."""
    for member in world.controller.fleet.members.values():
        limit = member.limit
        limit.update = lambda model, sight, limit=limit: limit.put(2.0, "gone wrong")  # type: ignore[method-assign, misc]


def test_a_limit_that_goes_wrong_is_taken_back_and_held() -> None:
    """Limits of two calls under a load that needs twenty: within the long window they are back where they did well,
    it is told with what was restored, and while they are held the promises are kept again."""
    what = setting(workload(600.0, 6.0))
    played = Played(what, cut, 200.0)
    changes = played.of(TuningChanged)
    at, frozen = changes[0]
    assert (frozen.old, frozen.new, 200.0 < at < 330.0) == ("free", "frozen", True)
    assert any(name.startswith("limit/") and old == 2.0 and new > 20.0 for name, old, new in frozen.restored)
    assert played.in_slo(what, 205.0, at) < 0.7
    held_until = changes[1][0] if len(changes) > 1 else 600.0
    assert held_until - at >= 119.0
    assert played.in_slo(what, at + 15.0, held_until - 5.0) > 0.95


@pytest.mark.parametrize(
    "events",
    ["", "events:\n  - {at_s: 120, until_s: 240, deployment: large, slowdown: 2.5}\n",
     "events:\n  - {at_s: 120, until_s: 180, deployment: large, down: true}\n"],
    ids=["overload", "slowdown", "outage"],
)  # fmt: skip
def test_trouble_that_is_not_the_tuners_doing_freezes_nothing(events: str) -> None:
    """Overload, a slow server, a server that is gone: moving limits and prices is the cure."""
    played = Played(setting(workload(300.0, 6.0 if events else 16.0), SMALL_LARGE + events))
    assert played.of(TuningChanged) == []


def test_advice_changes_nothing() -> None:
    """Through a slowdown limits stay where the policy put them and prices at their start; what would have been done is
    told and marked, and nothing else of the kind."""
    slow = "events:\n  - {at_s: 40, until_s: 100, deployment: large, slowdown: 2.5}\n"
    what = setting(workload(150.0, 12.0), SMALL_LARGE + slow, mode=Mode.ADVISE, limit=LimitTerms(LimitKind.AIMD, 24))
    played = Played(what)
    changes = played.of(LimitUpdate, PriceUpdate, CeilingUpdate)
    assert any(isinstance(event, LimitUpdate) for _, event in changes)
    assert any(isinstance(event, PriceUpdate) for _, event in changes)
    assert all(event.advised for _, event in changes)
    assert {sample.limit for sample in played.world.samples} == {24.0}
    prices = {p for _, e in played.of(DecisionMade) for p in e.decision.prices.capacity.values()}
    assert prices == {0.0}
    assert {e.decision.prices.floor for _, e in played.of(DecisionMade)} <= {0.5}


def test_an_edit_turns_advice_into_action_and_back() -> None:
    """From 60 s to 120 s what is found is in force, before and after it is only said."""
    base = setting(workload(180.0, 16.0), mode=Mode.ADVISE, limit=LimitTerms(LimitKind.AIMD, 24))
    acting = setting(base.workload, limit=LimitTerms(LimitKind.AIMD, 24)).policy
    edits = ((60.0, replace(acting, digest="acting")), (120.0, replace(base.policy, digest="advising")))
    played = Played(replace(base, edits=edits))
    moves = [(at, e.advised) for at, e in played.of(LimitUpdate, PriceUpdate)]
    assert {advised for at, advised in moves if at < 60.0} == {True}
    assert {advised for at, advised in moves if 60.2 < at < 120.0} == {False}
    assert {advised for at, advised in moves if at > 120.2} == {True}
    limits = {s.limit for s in played.world.samples if s.at_s < 60.0 or s.at_s > 121.0}
    assert limits == {24.0}


def test_old_telemetry_costs_little_and_none_at_all_less_than_all() -> None:
    """Others load both servers unseen. Telemetry 0.2 to 5 s old costs at most five points against exact; of telemetry
    15 s old, or none from the start, at least three quarters are left."""
    arrivals = workload(180.0, 6.0)
    exact = Played(setting(arrivals, SHARED)).useful
    for lag_s, most in ((0.2, 0.05), (1.0, 0.05), (5.0, 0.05), (15.0, 0.25), (1e6, 0.25)):
        lagging = Played(setting(arrivals, SHARED, lags=((0.0, lag_s),)))
        assert lagging.useful >= exact - most, lag_s


def test_telemetry_that_stops_is_noticed_and_told_in_steps() -> None:
    """From the moment it is late: first only the ledger counts, half a minute on it is taken for slower; when it comes
    again all is fresh."""
    lags = ((0.0, 0.1), (60.0, 60.0), (121.0, 0.1))
    played = Played(setting(workload(150.0, 4.0), SHARED, lags=lags))
    steps = [(at, e.new) for at, e in played.of(KnowledgeChanged) if e.deployment == "large"]
    assert [new for _, new in steps] == ["ledger", "conservative", "fresh"]
    assert 60.0 < steps[0][0] < 63.0
    assert 88.0 < steps[1][0] < 96.0
    assert 121.0 < steps[2][0] < 126.0


def test_a_deployment_that_stops_answering_is_noticed_within_two_response_times() -> None:
    """It goes silent with calls on it: by what has not come back, not by what has, traffic leaves it within twice the
    time that an answer takes."""
    what = setting(
        workload(90.0, 6.0), SMALL_LARGE + "events:\n  - {at_s: 60, until_s: 90, deployment: large, slowdown: 1000}\n"
    )
    played = Played(what)
    rows = what.workload.arrivals
    before = [s.e2e_s for s in played.world.served if s.deployment == "large" and rows[int(s.request_id)].at_s < 50.0]
    response_s = sorted(e for e in before if e is not None)[len(before) // 2]
    late = [e.decision.chosen for at, e in played.of(DecisionMade) if at > 60.0 + 2.0 * response_s]
    early = [e.decision.chosen for at, e in played.of(DecisionMade) if at < 60.0]
    assert early.count("large") > 0.5 * len(early)
    assert late.count("large") < 0.05 * len(late)


def test_half_open_probes_are_told() -> None:
    """An outage of a minute: open, half-open, and open again or closed, each an event of its own."""
    events = "events:\n  - {at_s: 30, until_s: 90, deployment: large, down: true}\n"
    played = Played(setting(workload(120.0, 6.0), SMALL_LARGE + events))
    moves = [(e.old, e.new) for _, e in played.of(HealthChanged) if e.deployment == "large"]
    assert moves[0] == ("ok", "open")
    assert ("open", "probing") in moves
    assert ("probing", "open") in moves
    assert moves[-1] == ("probing", "ok")
    assert all(old == new for (_, old), (new, _) in pairwise(moves))


@pytest.mark.parametrize("per_s", [4.0, 9.0, 14.0])
def test_choices_between_tiers_do_not_flip_under_a_steady_load(per_s: float) -> None:
    """The share of the large tier, over 10 s, turns by more than 15 % of itself less than twice a minute."""
    played = Played(setting(workload(240.0, per_s)))
    large, total = [0.0] * 24, [0.0] * 24
    for at, event in played.of(DecisionMade):
        window = int(at // 10.0)
        if window < 24:
            total[window] += 1.0
            large[window] += event.decision.chosen == "large"
    shares = trailing(large, total, 3)[6:]
    assert per_minute(flips(shares, 0.15), 180.0) < 2.0
