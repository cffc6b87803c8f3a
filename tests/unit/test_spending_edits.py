"""What becomes of a budget and of those who wait for it when the policy is edited."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from router.core.spending.account import DAY_S
from router.domain.slo import Budget, RequestClass, WhenSpent
from tests.regressions.house import cancel, code_of, virtually
from tests.unit.budgeted_house import edited, home, refused, spend


def test_an_edit_of_the_budget_keeps_what_was_spent() -> None:
    """Also while the class is gone, until the day ends."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        spend(house, 0.5)
        edited(house, replace(house.classes[0], budget=Budget(usd_per_day=0.5)))
        assert (await refused(house)).code == "insufficient_quota"
        edited(house, RequestClass("another"))
        await house.beat(2.0)
        edited(house, replace(house.classes[0], budget=Budget(usd_per_day=0.5005)))
        assert (await refused(house)).code == "insufficient_quota"
        edited(house, RequestClass("yet another"))
        await house.beat(DAY_S, 10.0)
        assert house.controller.spending.books() == {}

    virtually(scene)


@pytest.mark.parametrize("raised", [2.0, None])
def test_a_raised_budget_lets_those_go_who_wait_for_it(raised: float | None) -> None:
    """Though they came under the old policy."""

    async def scene() -> None:
        house = home(WhenSpent.QUEUE, 1.0)
        spend(house, 1.0)
        task = house.going("r")
        await house.beat(10.0)
        edited(house, replace(house.classes[0], budget=Budget(usd_per_day=raised, when_spent=WhenSpent.QUEUE)))
        await house.beat(1.0)
        assert code_of(task) == "ok"

    virtually(scene)


def test_an_edit_from_queue_to_reject_refuses_those_who_come() -> None:
    """They do not join those who wait under the old one."""

    async def scene() -> None:
        house = home(WhenSpent.QUEUE, 1.0)
        spend(house, 1.0)
        task = house.going("r")
        await house.beat(1.0)
        edited(house, replace(house.classes[0], budget=Budget(usd_per_day=1.0)))
        assert (await refused(house)).code == "insufficient_quota"
        assert code_of(task) == "waiting"
        await cancel(task)

    virtually(scene)
