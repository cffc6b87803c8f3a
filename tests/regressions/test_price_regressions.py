"""Prices follow what is there: they fall when the load is gone, and pay for nothing that cannot be had."""

from __future__ import annotations

import pytest

from router.domain.deployment import Price, Tier
from router.domain.errors import Unreachable
from router.domain.events import PriceUpdate
from router.domain.slo import Budget, FloorUnderOverload, Indicator, Objective, Objectives, QualityFloor, RequestClass
from tests.regressions.house import House, cancel, code_of, deployment, failing, never, virtually

_STRICT = Objectives(ttft=Objective(Indicator.TTFT, 0.005))
_GENTLE = Objectives(ttft=Objective(Indicator.TTFT, 1.0))


def test_a_slow_deployment_that_nobody_uses_is_not_scarce() -> None:
    """Its price does not rise while traffic that finds it too slow goes elsewhere."""

    async def scene() -> None:
        house = House(RequestClass("strict", objectives=_STRICT))
        house.member("large").latency.observe_overdue(0.01, 10.0, 1.0, now=0.0)
        asked = await house.traffic(15.0, 20.0, request_class="strict")
        assert asked["large"] == 0
        assert house.member("large").price.integral == 0.0
        assert house.member("small").price.integral > 1.0

    virtually(scene)


@pytest.mark.parametrize("burst_s", [2.0, 60.0])
def test_a_capacity_price_falls_when_the_load_has_gone(burst_s: float) -> None:
    """However hard a burst pressed: after idle minutes the price is nothing, and who may be shed is served."""

    async def scene() -> None:
        house = House(
            RequestClass("strict", objectives=_STRICT),
            RequestClass("spare", objectives=_GENTLE, sheddable=True),
            deployments=(deployment("only"),),
        )
        await house.traffic(burst_s, 20.0, request_class="strict")
        price = house.member("only").price
        highest = price.integral
        assert highest > 0.05
        await house.beat(5.0)
        assert price.integral < highest + 0.3
        await house.beat(180.0)
        assert price.integral == 0.0
        assert (await house.ask("spare", request_class="spare")).receipt.deployment == "only"

    virtually(scene)


def test_a_price_is_not_moved_by_who_may_not_use_the_deployment() -> None:
    """A class bound to the large model presses on the large one alone."""

    async def scene() -> None:
        house = House(RequestClass("strict", deployments=("large",), objectives=_STRICT), RequestClass("all"))
        await house.traffic(15.0, 20.0, request_class="strict")
        assert house.member("large").price.integral > 1.0
        assert house.member("small").price.integral == 0.0
        assert {e.subject for e in house.of(PriceUpdate)} == {"large"}

    virtually(scene)


def test_a_price_is_not_moved_by_who_cannot_pay_for_the_deployment() -> None:
    """A busy deployment that is too dear for those who press is not pressed by them."""

    async def scene() -> None:
        dear = deployment("large", Tier.LARGE, price=Price(1e3, 1e3))
        house = House(
            RequestClass("strict", objectives=_STRICT, budget=Budget(usd_per_request=1e-3)),
            RequestClass("all"),
            deployments=(deployment("small"), dear),
        )
        house.backend.scripts = {"large": never}
        users = [house.going(f"u{i}", request_class="all", model="large") for i in range(3)]
        await house.traffic(15.0, 20.0, request_class="strict")
        assert house.member("small").price.integral > 1.0
        assert house.member("large").price.integral == 0.0
        await cancel(*users)

    virtually(scene)


def test_a_price_is_not_moved_by_who_asks_for_another_by_name() -> None:
    """What a sender asked for by name presses only there."""

    async def scene() -> None:
        house = House(RequestClass("strict", objectives=_STRICT))
        await house.traffic(15.0, 20.0, model="large")
        assert house.member("large").price.integral > 1.0
        assert house.member("small").price.integral == 0.0

    virtually(scene)


def floors_in(under: FloorUnderOverload, pressed: str) -> tuple[float, float]:
    """The floor price of a class that may use `small` and `mid`, before and after another class pressed elsewhere."""
    prices = []

    async def scene() -> None:
        floor = QualityFloor(0.9, under_overload=under)
        cheap = RequestClass("cheap", deployments=("small", "mid"), floor=floor)
        house = House(
            RequestClass("strict", deployments=(pressed,), objectives=_STRICT),
            cheap,
            deployments=(deployment("small"), deployment("mid"), deployment("large", Tier.LARGE)),
        )
        prices.append(house.controller.duals.floor(cheap))
        await house.traffic(15.0, 20.0, request_class="strict")
        prices.append(house.controller.duals.floor(cheap))

    virtually(scene)
    return prices[0], prices[1]


def test_a_floor_that_may_give_gives_way_to_its_own_deployments_only() -> None:
    """A busy deployment that the class may not use does not switch its floor off; one that it may use does; a floor
    that sheds instead never gives."""
    before, after = floors_in(FloorUnderOverload.DEGRADE, "large")
    assert after == before > 0.0
    assert floors_in(FloorUnderOverload.DEGRADE, "mid")[1] == 0.0
    before, after = floors_in(FloorUnderOverload.SHED, "mid")
    assert after == before > 0.0


_FLOORED = RequestClass("all", floor=QualityFloor(0.9))


def test_a_floor_is_charged_for_what_was_served_not_for_what_was_counted() -> None:
    """The large model was picked and failed, the small one answered: the price moves as for a small answer."""

    async def scene() -> None:
        house = House(_FLOORED)
        floor = house.controller.duals.floors["all"]
        house.backend.scripts = {"large": failing(Unreachable("gone"))}
        before = floor.value
        assert (await house.ask()).receipt.deployment == "small"
        rise = floor.value - before
        house.backend.scripts = {}
        before = floor.value
        assert (await house.ask()).receipt.deployment == "large"
        fall = before - floor.value
        assert rise / fall == pytest.approx((floor.target - 0.5) / (0.95 - floor.target), rel=1e-6)

    virtually(scene)


@pytest.mark.parametrize("listed", ["small", "both"])
def test_a_request_that_is_not_served_leaves_the_floor_where_it_was(listed: str) -> None:
    """Whether the price had moved for it or could not: a failure is neither a good answer nor a bad one."""

    async def scene() -> None:
        deployments = (deployment("small"), deployment("large", Tier.LARGE))
        house = House(_FLOORED, deployments=deployments if listed == "both" else deployments[:1])
        down = failing(Unreachable("gone"))
        house.backend.scripts = {"small": down, "large": down}
        floor = house.controller.duals.floors["all"]
        before = floor.value
        for i in range(10):
            task = house.going(f"r{i}")
            await house.beat(100.0, 1.0)
            assert code_of(task) in {"unreachable", "queue_timeout"}
        assert floor.value == pytest.approx(before, abs=1e-9)

    virtually(scene)


def test_a_floor_price_does_not_wind_up_while_nobody_reaches_the_floor() -> None:
    """600 answers of the small model while it alone is there: the price stays, and the large model is not overpaid
    when it is back."""

    async def scene() -> None:
        house = House(_FLOORED, deployments=(deployment("small"),))
        floor = house.controller.duals.floors["all"]
        before = floor.value
        for i in range(600):
            await house.ask(f"r{i}")
        assert floor.value == before

    virtually(scene)


def test_a_floor_price_still_rises_where_the_floor_could_be_met() -> None:
    """Small answers although a large model was to be had, at a price that was not paid, are what it is for."""

    async def scene() -> None:
        dear = deployment("large", Tier.LARGE, price=Price(1e3, 1e3))
        house = House(_FLOORED, deployments=(deployment("small"), dear))
        floor = house.controller.duals.floors["all"]
        before = floor.value
        await house.ask()
        assert house.backend.calls == ["small"]
        assert floor.value > before

    virtually(scene)
