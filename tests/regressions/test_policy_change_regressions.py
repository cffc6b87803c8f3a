"""What a change of policy keeps: everything learned of a deployment that is still the same."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from router.domain.deployment import Address, BatchProfile, Deployment, Kind, TokenQuota
from router.domain.outcome import Attempt, Delta
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Bounds, Policy
from tests.regressions.house import WHOLE, House, deployment, speaking, virtually

_CLASS = RequestClass("all", objectives=Objectives(tpot=Objective(Indicator.TPOT, 0.014)))
_P = deployment("p", kind=Kind.PROVISIONED, quota=TokenQuota(1000, 100_000))
_B = deployment("b", kind=Kind.BATCH, batch=BatchProfile(0.03, 0.002), max_items=8)


async def half_a_second(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    """Far slower than its profile says."""
    await asyncio.sleep(0.5)
    return (WHOLE,) * len(attempts)


async def used() -> House:
    """A house whose quota is nearly spent, whose batch curve is learned, and whose limit has come down."""
    house = House(_CLASS, deployments=(_P, _B))
    house.backend.scripts = {"p": speaking("x", first_s=0.03, tokens=64)}
    house.backend.batch = half_a_second
    for i in range(5):
        await house.ask(f"b{i}", model="b")
    await house.ask("p", model="p", input_tokens=900)
    await house.beat(2.0)
    return house


def figures(house: House) -> tuple[float, float, float]:
    """Tokens left, expected seconds of a batch of 5, and the limit in flight."""
    p, b = house.member("p"), house.member("b")
    assert p.quota is not None
    assert b.batch is not None
    return p.quota.input.level, b.batch.expected_s(5), p.limit.value


def apply(house: House, *deployments: Deployment, bounds: Bounds | None = None) -> None:
    """Put another policy in force."""
    classes = (replace(_CLASS, priority=7),)
    house.controller.apply(Policy("p2", classes, deployments or house.listed, bounds or house.bounds), now=0.0, at=0.0)


def test_an_edit_of_a_priority_forgets_nothing() -> None:
    """Quota level, batch curve and concurrency limit are as they were, and the edit counts."""

    async def scene() -> None:
        house = await used()
        before = figures(house)
        assert before[0] < 200.0
        assert before[1] > 0.2
        assert before[2] < 200.0
        apply(house)
        assert figures(house) == before
        assert house.controller.policy.classes[0].priority == 7

    virtually(scene)


def test_another_price_or_tag_is_still_the_same_deployment() -> None:
    """What does not change where and what is called keeps what was learned."""

    async def scene() -> None:
        house = await used()
        before = figures(house)
        apply(house, replace(_P, tags=frozenset({"eu"})), replace(_B, max_items=4))
        assert figures(house) == before
        assert house.member("b").batch is not None
        assert house.member("b").batch.max_items == 4  # type: ignore[union-attr]

    virtually(scene)


@pytest.mark.parametrize("what", ["quota", "batch", "limit"])
def test_what_the_operator_writes_anew_counts(what: str) -> None:
    """Another quota begins full, another batch profile is believed, a lower limit is kept."""

    async def scene() -> None:
        house = await used()
        before = figures(house)
        p = replace(_P, quota=TokenQuota(2000, 100_000)) if what == "quota" else _P
        p = replace(p, max_in_flight=2) if what == "limit" else p
        apply(house, p, replace(_B, batch=BatchProfile(0.01, 0.001)) if what == "batch" else _B)
        after = figures(house)
        expected = {
            "quota": (2000.0, before[1], before[2]),
            "batch": (before[0], pytest.approx(0.015), before[2]),
            "limit": (before[0], before[1], 2.0),
        }
        assert after == expected[what]

    virtually(scene)


def test_another_address_or_model_is_another_deployment() -> None:
    """What was learned of one endpoint is not believed of the next that takes its name."""

    async def scene() -> None:
        for moved in (replace(_B, address=Address("scripted", "elsewhere")), replace(_B, model="other")):
            house = await used()
            apply(house, _P, moved)
            assert figures(house)[1] == pytest.approx(0.04)

    virtually(scene)


def test_a_quota_spent_before_an_edit_is_spent_after_it() -> None:
    """An edit is no way round the tokens a minute."""

    async def scene() -> None:
        house = await used()
        apply(house)
        task = house.going("next", model="p", input_tokens=900)
        await house.beat(5.0)
        assert not task.done()
        await house.beat(55.0)
        assert task.done()

    virtually(scene)
