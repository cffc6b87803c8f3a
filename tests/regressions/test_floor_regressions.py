"""A floor counts what was served, and sets it right when a verdict comes."""

from __future__ import annotations

from random import Random

import pytest

from router.core.drift.freeze import Freeze
from router.core.evidence import Remembered
from router.core.feedback import Feedback
from router.domain.errors import Refused, RouterError
from router.domain.events import JUDGE
from router.domain.slo import Judge, QualityFloor, RequestClass
from tests.regressions.house import House, failing, virtually


def test_a_verdict_reaches_the_price_and_the_senders_later_word_replaces_the_judges() -> None:
    """What was counted is set right by the judge; a sender who says otherwise takes that back; a third word says
    nothing."""
    house = House(RequestClass("all", floor=QualityFloor(0.9)))

    async def scene() -> None:
        reply = await house.dispatcher.submit(house.request())
        feedback, floor, decision = Feedback(house.controller), house.controller.duals.floors["all"], reply.receipt
        known = house.controller.memory._by_id[decision.decision_id]
        assert known.floor == "all"
        assert known.counted == pytest.approx(0.95)
        docket = house.controller.judging.docket
        docket.expect(decision.decision_id, Judge("large", 0.1), "large", "all")
        docket.on_verdict(decision.decision_id, 0.0, due=0.0)
        feedback.on_quality(decision.decision_id, 0.0, adequate=0.0, source=JUDGE)
        assert floor.owed == pytest.approx(0.95, rel=0.2)
        feedback.on_quality(decision.decision_id, 1.0, adequate=1.0)
        assert floor.owed == pytest.approx(-0.05, abs=0.2)
        owed = floor.owed
        feedback.on_quality(decision.decision_id, 0.0, adequate=0.0)
        assert floor.owed == owed

    virtually(scene)


def test_what_was_not_served_does_not_count() -> None:
    """A call that fails for good leaves the price where it was, and no verdict is expected of it."""
    house = House(RequestClass("all", floor=QualityFloor(0.9), max_retries=0))
    for name in ("small", "large"):
        house.backend.scripts[name] = failing(Refused("no"))

    async def scene() -> None:
        floor = house.controller.duals.floors["all"]
        before = floor.value
        with pytest.raises(RouterError):
            await house.dispatcher.submit(house.request())
        assert floor.value == pytest.approx(before)
        assert floor._rates == {}

    virtually(scene)


def test_a_source_that_drifts_upward_lowers_no_floor_price() -> None:
    """A judge that suddenly finds everything good is believed neither by the beliefs nor by the floor; one that turned
    strict still makes the floor buy."""
    house = House(RequestClass("all", floor=QualityFloor(0.9)))
    drift, feedback, rng = house.controller.drift, Feedback(house.controller), Random(1)

    def answer() -> Remembered:
        return Remembered(rng.choice(("model-small", "model-large")), "chat", 0.5, "all", "small")

    for _ in range(200):
        drift.teach(answer(), float(rng.random() < 0.5), source=JUDGE)
    for _ in range(200):
        drift.teach(answer(), 1.0, source=JUDGE)
    assert drift.is_frozen(JUDGE)

    async def owes(adequate: float) -> float:
        """What a verdict adds to what the floor owes."""
        floor, reply = house.controller.duals.floors["all"], await house.ask()
        before = floor.owed
        feedback.on_quality(reply.receipt.decision_id, adequate, adequate=adequate, source=JUDGE)
        return floor.owed - before

    async def scene() -> None:
        assert await owes(1.0) == 0.0
        drift._frozen[JUDGE] = Freeze(0.0)
        assert await owes(0.0) > 0.0

    virtually(scene)
