"""What keeps automatic changes from doing harm: scored predictions, freezes, advice, staleness, transitions told."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console

from router.cli.policy.status import _view
from router.control.circuit import Circuit
from router.control.staleness import Knowledge, Staleness
from router.core.stability.fixed import first
from router.core.stability.freeze import Change, Freeze, State, World
from router.core.stability.scores import Scores
from router.domain.control.stability import CoverageChanged, PredictionsScored, TuningChanged
from router.domain.deployment import Mode, Tier
from router.domain.events import CeilingUpdate, HealthChanged, LimitUpdate, PriceUpdate
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import QualityFloor, RequestClass
from router.domain.view import DeploymentView, Health, Load
from router.learning.coverage import Coverage
from router.learning.latency import Residual
from router.policy.compile import compile_policy
from router.policy.policy import Policy
from router.telemetry.metrics import Metrics
from tests.regressions.house import House, deployment

FLEET = """
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices: {models: {llama-3.1-8b: {input: 0.22, output: 0.22}, llama-3.1-70b: {input: 0.99, output: 0.99}}}
classes: [{name: chat, floor: 0.9, match: {tenants: a}}, {name: rest}]
"""


def scored(
    coverage: Coverage, sigma: float, *, until: float, now: float = 0.0, seed: int = 1
) -> list[tuple[float, bool]]:
    """Ten predictions a second, of a spread of 1 where `sigma` was predicted; when `is_off` changed, and to what."""
    rng, changes = Random(seed), []
    while now < until:
        coverage.observe(rng.gauss(0.0, 1.0), 0.0, sigma)
        if coverage.look(now=now):
            changes.append((now, coverage.is_off))
        now += 0.1
    return changes


def test_an_honest_interval_covers_nine_of_ten_and_nothing_is_told() -> None:
    """Over 4,000 predictions."""
    coverage = Coverage()
    assert scored(coverage, 1.0, until=400.0) == []
    assert coverage.ratio == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(("sigma", "covers"), [(0.5, 0.59), (2.5, 1.0)])
def test_intervals_that_are_too_narrow_or_too_wide_for_long_are_told_once(sigma: float, covers: float) -> None:
    """After more than a minute, not before; and once more when they hold again."""
    coverage = Coverage()
    changes = scored(coverage, sigma, until=200.0)
    assert [off for _, off in changes] == [True]
    assert changes[0][0] >= 60.0
    assert coverage.ratio == pytest.approx(covers, abs=0.06)
    assert [off for _, off in scored(coverage, 1.0, now=200.0, until=500.0)] == [False]


def test_predictions_that_are_scored_are_a_metric(house: House) -> None:
    """Inside, over and under since the last tick, and the share inside."""
    registry = CollectorRegistry()
    metrics = Metrics(house.controller.policy, registry)
    handlers = {t: h for s in metrics.subscribers for t, h in s.handlers().items() if t is PredictionsScored}
    handlers[PredictionsScored](PredictionsScored("small", "ttft", 7, 2, 1, 0.88))
    labels = {"deployment": "small", "what": "ttft"}
    assert registry.get_sample_value("router_prediction_coverage_ratio", labels) == 0.88
    assert registry.get_sample_value("router_predictions_total", {**labels, "result": "over"}) == 2.0


@pytest.fixture
def house() -> House:
    return House()


CALM, BUSY = World(10.0, 1e4, {"large": 1.0}), World(20.0, 2e4, {"large": 1.0})
GOOD, MOVED = {"limit/large": 40.0, "capacity/large": 1.0}, {"limit/large": 4.0, "capacity/large": 1.1}


def played(
    freeze: Freeze, begin: int, end: int, world: World, values: dict[str, float], *, bad: float
) -> list[tuple[int, Change]]:
    """Ten requests a second of which the share `bad` breaks its promise, looked at once a second."""
    changes = []
    for second in range(begin, end):
        for number in range(10):
            freeze.record("chat", [("ttft", 0.99, number >= round(10 * bad))], now=second + number / 10.0)
        if (change := freeze.look(world, values, now=second + 1.0)) is not None:
            changes.append((second, change))
            if change.state is State.FROZEN:
                values = {**values, **change.back}
    return changes


def test_a_burn_right_after_a_move_takes_the_move_back() -> None:
    """A limit cut to a tenth, then three of ten late: within the long window it is back where it was, and what has
    hardly moved is left alone."""
    freeze = Freeze()
    assert played(freeze, 0, 300, CALM, GOOD, bad=0.0) == []
    ((when, change),) = played(freeze, 300, 600, CALM, MOVED, bad=0.6)
    assert when - 300 < 120
    assert (change.state, dict(change.back)) == (State.FROZEN, {"limit/large": 40.0})
    assert "bad in 25 s" in change.reason


@pytest.mark.parametrize(
    "world", [BUSY, replace(CALM, slowness={"large": 2.0}), replace(CALM, others=8.0)], ids=["load", "slow", "others"]
)
def test_a_burn_that_the_world_explains_freezes_nothing(world: World) -> None:
    """More is asked for, a server is slower, others load it: then moving limits and prices is the cure."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    assert played(freeze, 300, 900, world, MOVED, bad=0.6) == []


def test_a_burn_without_a_move_freezes_nothing() -> None:
    """Nothing to take back."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    assert played(freeze, 300, 900, CALM, GOOD, bad=0.6) == []


def test_it_thaws_when_the_class_has_done_well_and_holds_longer_the_next_time() -> None:
    """At least two minutes the first time, twice that when it burns again within the hour."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    ((when, _),) = played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    ((thawed, change),) = played(freeze, 400, 800, CALM, GOOD, bad=0.0)
    assert change.state is State.FREE
    first_s = thawed - when
    assert first_s >= 119
    ((again, _),) = played(freeze, 800, 1000, CALM, MOVED, bad=0.6)
    ((later, _),) = played(freeze, 1000, 1600, CALM, GOOD, bad=0.0)
    assert later - again >= 239


@pytest.mark.parametrize(
    ("world", "bad", "says"), [(BUSY, 0.0, "more is asked for"), (CALM, 0.6, "has not helped")], ids=["world", "futile"]
)
def test_what_is_held_is_let_go_when_the_world_moves_or_it_has_not_helped(world: World, bad: float, says: str) -> None:
    """At once when more is asked for; after a quarter of an hour when the burn goes on all the same, and then it is
    not held again for that burn."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    assert freeze.state is State.FROZEN
    ((_, change),) = played(freeze, 400, 2400, world, GOOD, bad=bad)
    assert (change.state, says in change.reason) == (State.FREE, True)


def test_an_edit_of_the_policy_lets_go() -> None:
    """The operator's word goes before."""
    freeze = Freeze()
    played(freeze, 0, 300, CALM, GOOD, bad=0.0)
    played(freeze, 300, 400, CALM, MOVED, bad=0.6)
    change = freeze.adopt(["chat"])
    assert change is not None
    assert change.state is State.FREE
    assert freeze.adopt(["chat"]) is None


def modes(policy: Policy) -> dict[str, Mode]:
    """By deployment and class."""
    return {**{str(d.name): d.mode for d in policy.deployments}, **{c.name: c.mode for c in policy.classes}}


def test_advice_is_asked_for_by_document_deployment_or_class() -> None:
    """The document says it for all that say nothing themselves; `act` where nobody does."""
    act, advise = Mode.ACT, Mode.ADVISE
    assert set(modes(compile_policy([("f.yaml", FLEET)])).values()) == {act}
    assert set(modes(compile_policy([("f.yaml", FLEET + "mode: advise\n")])).values()) == {advise}
    mixed = FLEET.replace("tier: small,", "tier: small, mode: act,").replace("name: rest", "name: rest, mode: act")
    assert modes(compile_policy([("f.yaml", mixed + "mode: advise\n")])) == {
        "small": act, "large": advise, "chat": advise, "rest": act
    }  # fmt: skip


def advised_house() -> House:
    small = replace(deployment("small"), mode=Mode.ADVISE)
    return House(
        RequestClass("all", floor=QualityFloor(0.9), mode=Mode.ADVISE),
        deployments=(small, deployment("large", Tier.LARGE)),
    )


def test_advice_on_prices_is_marked_and_not_in_force() -> None:
    """Pressed for a minute: the price that would be is told, decisions see none; so it is with the floor's."""
    house = advised_house()
    controller, told = house.controller, []
    small, large = house.member("small"), house.member("large")
    floor = controller.duals.floors["all"]
    for beat in range(600):
        small.price.observe(1.5)
        large.price.observe(1.5)
        floor.on_served(0.0)
        told += controller.tick(now=beat / 10.0, at=beat / 10.0)
    assert small.price.integral > 1.0
    assert small.price.value(1.5) == small.price.in_force == 0.0
    assert large.price.value(1.5) > 1.0
    assert floor.value > 2.0
    assert controller.duals.floor(controller.policy.classes[0]) == 0.5
    prices = {(e.kind, e.subject): e.advised for e in told if isinstance(e, PriceUpdate)}
    assert prices == {("capacity", "small"): True, ("capacity", "large"): False, ("floor", "all"): True}


def test_advice_turns_into_action_by_an_edit_from_where_it_started() -> None:
    """What a price ran away to while nothing followed it is not what it begins with."""
    house = advised_house()
    controller = house.controller
    member = house.member("small")
    member.price.integral = controller.duals.floors["all"].value = 7.0
    acting = tuple(replace(d, mode=Mode.ACT) for d in controller.policy.deployments)
    classes = tuple(replace(c, mode=Mode.ACT) for c in controller.policy.classes)
    controller.apply(replace(controller.policy, digest="next", deployments=acting, classes=classes), now=1.0, at=1.0)
    assert house.member("small") is member
    assert (member.price.value(0.0), controller.duals.floors["all"].in_force) == (0.0, 0.5)
    member.price.integral = 3.0
    assert member.price.value(0.0) == 3.0
    assert controller.tuning.standing().advised == ()


def test_advice_has_metrics_of_its_own(house: House) -> None:
    """And leaves those of what is in force alone."""
    registry = CollectorRegistry()
    metrics = Metrics(advised_house().controller.policy, registry)
    for event in (
        LimitUpdate("small", "in_flight", 40.0, 12.0, "headroom", advised=True),
        PriceUpdate("capacity", "small", 0.0, 2.0, "pressed", advised=True),
        CeilingUpdate("all", "m", 256, 512, 0.1, "longer", advised=True),
    ):
        for subscriber in metrics.subscribers:
            if (handler := subscriber.handlers().get(type(event))) is not None:
                handler(event)
    value = registry.get_sample_value
    assert value("router_advised_limit_attempts", {"deployment": "small"}) == 12.0
    assert value("router_advised_price", {"kind": "capacity", "subject": "small"}) == 2.0
    assert value("router_limit_attempts", {"deployment": "small"}) != 12.0
    assert value("router_price", {"kind": "capacity", "subject": "small"}) == 0.0
    assert value("router_advise_mode_ratio", {"of": "deployment", "subject": "small"}) == 1.0
    assert value("router_advised_updates_total", {"what": "ceiling"}) == 1.0


def aged(stale: Staleness, begin: float, end: float, **seen: float) -> list[tuple[float, str]]:
    """Looked at each tenth of a second; telemetry `lag_s` old comes each `every_s`, calls are silent since `since`."""
    changes, now, scraped = [], begin, seen.get("scraped_at", float("-inf"))
    while now < end:
        if "lag_s" in seen and now - seen["lag_s"] - scraped >= seen.get("every_s", 0.1) - 1e-9:
            scraped = now - seen["lag_s"]
        silent = now - seen["since"] if "since" in seen else 0.0
        if stale.look(
            now=now,
            scraped_at=scraped,
            others=seen.get("others", 5.0),
            silent_s=silent,
            expected_s=seen.get("usual", 0.2),
        ):
            changes.append((round(now - begin, 1), stale.known.value))
        now += 0.1
    return changes


@pytest.mark.parametrize("lag_s", [0.2, 1.0, 5.0, 15.0])
def test_telemetry_that_is_always_so_old_is_not_stale(lag_s: float) -> None:
    """What its age does to predictions their spread has learned; at first, until its age is known, it may count."""
    stale = Staleness()
    aged(stale, 0.0, 60.0, lag_s=lag_s)
    assert aged(stale, 60.0, 120.0, lag_s=lag_s, scraped_at=59.9 - lag_s) == []
    assert (stale.known, stale.wider, stale.slower) == (Knowledge.FRESH, 0.0, 0.0)


def test_telemetry_that_stops_is_believed_less_and_less() -> None:
    """First only the ledger counts, ever wider; after half a minute it is taken for slower too; with news it is fresh
    again, but not at once."""
    stale = Staleness()
    aged(stale, 0.0, 30.0, lag_s=0.2)
    widths = []
    changes = aged(stale, 30.0, 33.0, scraped_at=29.8)
    widths.append(stale.wider)
    changes += aged(stale, 33.0, 40.0, scraped_at=29.8)
    widths.append(stale.wider)
    assert [state for _, state in changes] == ["ledger"]
    assert 0.0 < widths[0] < widths[1]
    assert stale.slower == 0.0
    assert [state for _, state in aged(stale, 40.0, 80.0, scraped_at=29.8)] == ["conservative"]
    assert stale.slower > 0.0
    ((after_s, state),) = aged(stale, 80.0, 90.0, lag_s=0.2)
    assert (state, 1.9 < after_s < 2.3) == ("fresh", True)


def test_nothing_is_stale_where_nobody_else_is_there_or_nothing_was_ever_told() -> None:
    """The ledger of the sole client is the truth."""
    alone, never = Staleness(), Staleness()
    aged(alone, 0.0, 30.0, lag_s=0.2, others=0.0)
    assert aged(alone, 30.0, 300.0, scraped_at=29.8, others=0.0) == []
    assert aged(never, 0.0, 300.0) == []


def test_calls_that_stay_silent_make_it_conservative_and_then_blind() -> None:
    """Five seconds beyond three times what is usual, and a minute beyond that."""
    changes = aged(Staleness(), 0.0, 80.0, since=0.0, usual=1.0)
    assert [state for _, state in changes] == ["conservative", "blind"]
    assert changes[0][0] == pytest.approx(8.1, abs=0.2)
    assert changes[1][0] == pytest.approx(63.1, abs=0.2)


def test_a_wider_prediction_is_less_sure_either_way_and_a_slower_one_is_later() -> None:
    """And is what it was when it is widened no more."""
    residual = Residual(0.2)
    inside, outside = residual.p_within(0.4, 0.5), residual.p_within(0.6, 0.5)
    residual.widen(0.5, 0.0)
    assert 0.5 < residual.p_within(0.4, 0.5) < inside
    assert outside < residual.p_within(0.6, 0.5) < 0.5
    residual.widen(0.5, 0.3)
    assert residual.p_within(0.4, 0.5) < 0.5
    residual.widen(0.0, 0.0)
    assert residual.p_within(0.4, 0.5) == pytest.approx(inside)


def seen(name: str, tier: Tier, cost_usd: float, in_flight: int = 0) -> DeploymentView:
    load = Load(in_flight, 0, 0, 0.0)
    return DeploymentView(
        deployment(name, tier),
        "",
        load,
        None,
        0.9,
        0.9,
        100.0,
        0.1,
        0.02,
        1.0,
        1.0,
        cost_usd,
        1.0,
        0.0,
        0.0,
        True,
        True,
    )


def test_the_fixed_order_is_by_class() -> None:
    """Its fallback order; else the large tier where it has a floor; else the cheapest; then who has least to do."""
    views = [seen("a", Tier.SMALL, 0.1), seen("b", Tier.LARGE, 0.5, 9), seen("c", Tier.LARGE, 0.6, 2)]
    assert first(RequestClass("x", fallback=("b", "small")), views) == 1
    assert first(RequestClass("x", floor=QualityFloor(0.9)), views) == 2
    assert first(RequestClass("x"), views) == 0


def test_where_all_are_blind_the_fixed_order_decides_and_says_so(house: House) -> None:
    """Every candidate is unknown: no figure tells them apart."""
    for name in ("small", "large"):
        house.member(name).staleness.known = Knowledge.BLIND
    house.controller.fleet.has_blind = True
    ticket = house.controller.admit(
        Request(id=RequestId("r"), arrived=0.0, at=0.0, prompt=Prompt("hello"), input_tokens=10), now=0.0
    )
    decision = house.controller.decide(ticket, now=0.0)
    assert getattr(decision, "binding", None) == "blind"


def test_every_transition_of_a_circuit_is_told_also_between_two_ticks(house: House) -> None:
    """Open, half-open, open again, half-open, closed: five, each with a reason, though nobody looked in between."""
    member, circuit = house.member("small"), house.member("small").circuit
    for number in range(3):
        circuit.on_failed(f"a{number}", "timeout", None, now=0.0)
    circuit.on_sent("b", now=5.0)
    circuit.on_failed("b", "unreachable", None, now=5.0)
    circuit.on_sent("c", now=20.0)
    circuit.on_alive("c")
    told = house.controller.health(member)
    assert all(isinstance(event, HealthChanged) and event.reason for event in told)
    moves = [(e.old, e.new) for e in told if isinstance(e, HealthChanged)]
    ok, opened, probing = (h.value for h in (Health.OK, Health.OPEN, Health.PROBING))
    assert moves == [(ok, opened), (opened, probing), (probing, opened), (opened, probing), (probing, ok)]
    assert house.controller.health(member) == []


def probe_at(seed: int) -> float:
    """When a circuit that opened at 0 lets a call through."""
    circuit = Circuit(Random(seed))
    for number in range(3):
        circuit.on_failed(f"a{number}", "timeout", None, now=0.0)
    return next(ms / 1000.0 for ms in range(3000) if circuit.blocked(now=ms / 1000.0) is None)


def test_probes_are_jittered_by_a_seed() -> None:
    """Between one and 1.2 cool-downs; the same seed the same, others spread."""
    times = [probe_at(seed) for seed in range(20)]
    assert times == [probe_at(seed) for seed in range(20)]
    assert all(1.0 <= at <= 1.2 for at in times)
    assert max(times) - min(times) > 0.1


def test_how_tuning_stands_is_told_to_whoever_asks() -> None:
    """Held for which class and why; what is only advised beside what is in force."""
    page = {
        "in_force": "a", "written": "a", "status": {"state": "in_force", "problems": [], "rollouts": []},
        "rollouts": [], "budgets": {},
        "tuning": {
            "state": "frozen", "request_class": "chat", "reason": "ttft burns",
            "advised": [{"what": "limit", "subject": "small", "in_force": 40.0, "advised": 12.0}],
        },
    }  # fmt: skip
    console = Console(width=100)
    with console.capture() as captured:
        console.print(_view(page))
    text = captured.get()
    assert "held for class chat: ttft burns" in text
    assert "40" in text
    assert "12" in text


def test_coverage_and_freezes_are_told_with_old_new_and_reason() -> None:
    """The fields that every automatic change has."""
    for event in (CoverageChanged, TuningChanged, HealthChanged, LimitUpdate, PriceUpdate):
        assert {"old", "new", "reason"} <= set(event.__struct_fields__)
    scores = Scores("small")
    for _ in range(250):
        scores.ttft.observe(3.0, 0.0, 1.0)
    told = [e for now in (0.0, 61.0) for e in scores.tick(now=now) if isinstance(e, CoverageChanged)]
    assert [(e.old, e.new) for e in told] == [("holds", "narrow")]
    assert told[0].reason
