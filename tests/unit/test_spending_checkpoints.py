"""What a budget remembers over a restart."""

from __future__ import annotations

import asyncio

import pytest

from router.core import snapshot
from router.core.spending.account import DAY_S
from router.core.spending.spending import Paid
from router.domain.events import DecisionMade
from router.domain.slo import WhenSpent
from tests.regressions.house import cancel, virtually
from tests.unit.budgeted_house import books, home, refused, spend


def test_a_checkpoint_keeps_what_was_spent_and_counts_what_was_open() -> None:
    """A router that dies with a call in flight has spent what was reserved for it, until the log tells better."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        await house.ask("done", model="small")
        task = house.going("open", model="small")
        await asyncio.sleep(0.05)
        spent, reserved = books(house)
        data = snapshot.take(house.controller, at=1.0)
        heir = home(WhenSpent.REJECT, 1.0)
        snapshot.restore(heir.controller, data)
        assert books(heir) == (pytest.approx(spent + reserved), 0.0)
        cut = house.of(DecisionMade)[-1].decision.id
        heir.controller.spending.recover([Paid(cut, None, 13e-6, 2.0)], at=3.0)
        assert books(heir) == (pytest.approx(spent + 13e-6), 0.0)
        await cancel(task)

    virtually(scene)


def test_a_checkpoint_of_yesterday_has_spent_nothing_today() -> None:
    """But for a call of yesterday that ended today."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        spend(house, 0.5)
        task = house.going("open", model="small")
        await asyncio.sleep(0.05)
        data, cut = snapshot.take(house.controller, at=1.0), house.only(DecisionMade).decision.id
        heir = home(WhenSpent.REJECT, 1.0)
        snapshot.restore(heir.controller, data)
        heir.controller.spending.recover([Paid(cut, None, 0.1, DAY_S + 1.0)], at=DAY_S + 2.0)
        assert books(heir) == (pytest.approx(0.1), 0.0)
        await cancel(task)

    virtually(scene)


def test_a_checkpoint_of_a_wrong_clock_does_not_close_a_class_for_good() -> None:
    """What it says of a day that is still to come is taken to be of today."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        house.controller.spending.recover([Paid("x", "all", 1.0, 900 * DAY_S)], at=900 * DAY_S)
        heir = home(WhenSpent.REJECT, 1.0)
        snapshot.restore(heir.controller, snapshot.take(house.controller, at=1.0))
        heir.controller.spending.recover([], at=0.0)
        assert (await refused(heir)).retry_after_s == pytest.approx(DAY_S)
        await asyncio.sleep(DAY_S)
        await heir.ask("tomorrow")

    virtually(scene)


def test_an_old_checkpoint_is_taken_up_without_budgets() -> None:
    """One that was written before there were any."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        data = snapshot.take(house.controller, at=1.0).replace(b',"spending":{}', b"")
        assert b"spending" not in data
        snapshot.restore(house.controller, data)
        await house.ask("r")

    virtually(scene)
