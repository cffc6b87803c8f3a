"""What is not known any more is believed less and less, until a fixed order decides; and who is probed, when."""

from __future__ import annotations

from random import Random

import pytest

from router.control.circuit import Circuit
from router.control.staleness import Knowledge, Staleness
from router.core.stability.fixed import first
from router.domain.deployment import Tier
from router.domain.events import HealthChanged
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import QualityFloor, RequestClass
from router.domain.view import DeploymentView, Health, Load
from router.learning.latency import Residual
from tests.regressions.house import House, deployment


@pytest.fixture
def house() -> House:
    return House()


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
