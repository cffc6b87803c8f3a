"""A crash gives no budget back: what calls cost after the checkpoint is read from the decision log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.core import snapshot
from router.core.spending.account import DAY_S
from router.domain.deployment import Tier
from router.domain.errors import Unreachable
from router.domain.slo import Budget, RequestClass
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import CURRENT
from router.storage.paid_calls import calls_since, recover_spending
from tests.regressions.house import House, cancel, deployment, failing, speaking, virtually

CLASSES = (RequestClass("all", budget=Budget(usd_per_day=1.0), hedge_after_s=0.5), RequestClass("free"))


class Logged(House):
    """A house whose events go into a decision log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(*CLASSES, deployments=(deployment("small"), deployment("large", Tier.LARGE)))
        self.log = DecisionLog(folder)
        self.handlers = self.log.handlers()

    def emit(self, event: Any) -> None:
        super().emit(event)
        handler = self.handlers.get(type(event))
        if handler is not None:
            handler(event)
        self.log.flush()


def heir(house: House, saved: bytes | None, folder: Path, *, saved_at: float, at: float) -> tuple[float, float]:
    """What a new life finds spent and reserved."""
    fresh = House(*CLASSES, deployments=house.listed)
    if saved is not None:
        snapshot.restore(fresh.controller, saved)
    recover_spending(fresh.controller.spending, folder, saved_at, at=at)
    books = fresh.controller.spending.books()
    return (books["all"].spent_usd, sum(books["all"].open.values())) if books else (0.0, 0.0)


@pytest.mark.parametrize("saved_after", [0, 1, 3, 5])
def test_nothing_that_was_paid_is_lost(saved_after: int, tmp_path: Path) -> None:
    """Answers, failures that were paid, hedges that lost: whenever the checkpoint was written, the sum is the same to
    the cent; and a class without a budget does not count."""

    async def scene() -> None:
        house, saved, saved_at = Logged(tmp_path), None, 0.0
        scripts = [
            {},
            {"large": failing(Unreachable("cut"), after_s=0.1, tokens=2)},
            {"large": speaking("l", first_s=2.0), "small": speaking("s", first_s=0.1)},
            {"large": failing(Unreachable("no"))},
            {"small": speaking("s", first_s=0.2)},
        ]
        for number, script in enumerate(scripts):
            await asyncio.sleep(1.0)
            if number == saved_after:
                saved_at = asyncio.get_running_loop().time()
                saved = snapshot.take(house.controller, at=saved_at)
            house.backend.scripts = dict(script)
            await house.attempt(f"{number}", request_class="all")
            await house.attempt(f"f{number}", request_class="free")
        await asyncio.sleep(1.0)
        house.log.close()
        spent = house.controller.spending.books()["all"].spent_usd
        assert [house.backend.calls.count(name) for name in ("large", "small")] == [10, 5], (
            "all that was meant to happen"
        )
        at = asyncio.get_running_loop().time()
        found, reserved = heir(house, saved, tmp_path, saved_at=saved_at, at=at)
        assert found == pytest.approx(spent, abs=1e-12)
        assert reserved == 0.0

    virtually(scene)


def test_a_call_across_the_checkpoint_counts_once_with_its_cost(tmp_path: Path) -> None:
    """Reserved in the checkpoint, ended in the log."""

    async def scene() -> None:
        house = Logged(tmp_path)
        task = house.going("across", model="small", request_class="all")
        await asyncio.sleep(0.05)
        saved = snapshot.take(house.controller, at=0.05)
        await task
        house.log.close()
        spent = house.controller.spending.books()["all"].spent_usd
        assert heir(house, saved, tmp_path, saved_at=0.05, at=1.0) == (pytest.approx(spent), 0.0)

    virtually(scene)


def test_a_call_that_the_crash_cut_off_counts_as_it_was_expected(tmp_path: Path) -> None:
    """Decided after the checkpoint, ended nowhere: it may have been paid."""

    async def scene() -> None:
        house = Logged(tmp_path)
        task = house.going("cut", model="small", request_class="all")
        await asyncio.sleep(0.05)
        house.log.close()
        expected = house.member("small").deployment.price.cost_usd(10, house.controller.lengths.expect("all", "", None))
        assert heir(house, None, tmp_path, saved_at=-1.0, at=1.0) == (pytest.approx(expected), 0.0)
        await cancel(task)

    virtually(scene)


def test_a_torn_line_and_strange_records_are_passed_over(tmp_path: Path) -> None:
    """What the crash spoiled costs no more than itself."""

    async def scene() -> None:
        house = Logged(tmp_path)
        await asyncio.sleep(1.0)
        await house.ask("r", model="small", request_class="all")
        house.log.close()
        with (tmp_path / CURRENT).open("ab") as file:
            file.write(b'{"record":"feedback","version":1,"decision_id":"x","quality":0.5,"at":5.0}\n{"record":"deci')
        (call,) = calls_since(tmp_path, 0.0)
        assert (call.request_class, call.cost_usd) == ("all", pytest.approx(13e-6))

    virtually(scene)


def test_yesterday_is_not_counted(tmp_path: Path) -> None:
    """Without a checkpoint the running day is read, from its beginning."""

    async def scene() -> None:
        house = Logged(tmp_path)
        await asyncio.sleep(DAY_S - 10.0)
        await house.ask("yesterday", model="small", request_class="all")
        await asyncio.sleep(20.0)
        await house.ask("today", model="small", request_class="all")
        house.log.close()
        assert heir(house, None, tmp_path, saved_at=0.0, at=DAY_S + 60.0) == (pytest.approx(13e-6), 0.0)

    virtually(scene)


def test_without_a_budget_nothing_is_read(tmp_path: Path) -> None:
    """A daemon whose classes have none starts as fast as ever."""
    house = House(RequestClass("free"))
    recover_spending(house.controller.spending, tmp_path / "nowhere", 0.0, at=1.0)
    assert house.controller.spending.books() == {}
