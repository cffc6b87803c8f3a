"""What a second call may never cost: the first answer, the deadline, the budget, a promise."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from router.domain.deployment import Price, Tier
from router.domain.errors import Unreachable
from router.domain.events import CascadeChecked, DecisionMade, RequestEnded
from router.domain.slo import Budget, QualityFloor, RequestClass, WhenSpent
from tests.regressions.house import House, cancel, deployment, failing, failing_once, never, virtually
from tests.unit.cascade_house import CHECKED, asking, house, saying, sure_of_fails

AUTO = replace(CHECKED, threshold=None)


def test_no_second_call_past_the_deadline() -> None:
    """Too little is left for another answer: the one in hand is sent, in time."""

    async def scene() -> None:
        made = house()
        reply = await made.ask(deadline_s=0.6, **asking())
        assert made.backend.calls == ["small"]
        assert reply.receipt.deployment == "small"
        assert made.only(CascadeChecked).escalated is False
        paid = house(AUTO, floor=QualityFloor(0.9))
        sure_of_fails(paid)
        paid.backend.scripts["small"] = saying("bad", after_s=0.01)
        paid.controller.duals.floors["all"].value = 3.0
        await paid.ask(deadline_s=0.9, **asking())
        assert len(paid.backend.calls) == 1, "also not where the floor would pay for a late answer"

    virtually(scene)


def test_a_second_call_that_is_late_gives_way_to_the_first_answer() -> None:
    """It is given up in time for the first answer to be sent before the deadline, and what it cost is counted."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["large"] = never
        reply = await made.ask(deadline_s=30.0, **asking())
        assert made.backend.calls == ["small", "large"]
        assert reply.receipt.deployment == "small"
        assert reply.receipt.attempts == 2
        ended = made.only(RequestEnded)
        assert ended.status == "completed"
        assert ended.e2e_s == pytest.approx(10.5)
        assert ended.ttft_s == pytest.approx(0.5)
        assert made.in_flight() == 0

    virtually(scene)


def test_a_second_call_that_fails_leaves_the_first_answer() -> None:
    """An answer in hand is never lost to the failure of another."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["large"] = failing(Unreachable("gone"), after_s=0.2, tokens=1)
        reply = await made.ask(**asking())
        assert b"bad" in reply.choices
        ended = made.only(RequestEnded)
        assert ended.status == "completed"
        assert ended.ttft_s == pytest.approx(0.5)
        assert made.in_flight() == 0

    virtually(scene)


def test_both_calls_stay_under_the_bound_of_a_request() -> None:
    """What the first cost is part of what the request may cost."""

    async def scene() -> None:
        expected = await _expected_usd()
        made = house(budget=Budget(usd_per_request=expected + 100e-6))
        await made.ask(**asking())
        assert made.backend.calls == ["small"]

    async def _expected_usd() -> float:
        made = house()
        await made.ask(**asking())
        decision = made.of(DecisionMade)[1].decision
        usd: float = next(c.terms.cost_usd for c in decision.candidates if c.deployment == "large")
        return usd

    virtually(scene)


def test_a_sender_who_leaves_during_the_second_call_ends_it() -> None:
    """It is cancelled, and what both cost is counted."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["large"] = never
        task = made.going(**asking())
        await asyncio.sleep(1.0)
        assert made.backend.calls == ["small", "large"]
        await cancel(task)
        assert made.backend.open_now == made.in_flight() == 0
        ended = made.only(RequestEnded)
        assert ended.code == "client_gone"
        assert ended.cost_usd >= 210e-6

    virtually(scene)


def test_a_class_that_forces_a_deployment_is_not_cascaded() -> None:
    """The policy's word for a deployment holds against its word for checks."""

    async def scene() -> None:
        made = house(forced="small")
        await made.ask(**asking())
        assert made.backend.calls == ["small"]
        assert made.of(CascadeChecked) == []

    virtually(scene)


def test_an_answer_that_a_retry_made_is_checked() -> None:
    """A call that failed is made again as without a cascade, and the answer is then looked at. The second call takes
    none of the retries."""

    async def scene() -> None:
        third = deployment("third", price=Price(1.0, 1.0))
        made = House(
            RequestClass("all", cascade=CHECKED, max_retries=1),
            deployments=(
                deployment("small", price=Price(1.0, 1.0)),
                third,
                deployment("large", Tier.LARGE, price=Price(1.0, 60.0)),
            ),
        )
        made.backend.scripts = {
            "small": failing(Unreachable("gone")),
            "third": saying("bad"),
            "large": saying("good"),
        }
        tokens = made.controller.retries.tokens
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small", "third", "large"]
        assert reply.receipt.deployment == "large"
        assert reply.receipt.attempts == 3
        assert made.controller.retries.tokens == pytest.approx(tokens - 1.0)

    virtually(scene)


def test_a_second_call_is_made_once() -> None:
    """Where it fails it is not tried again: the first answer is there."""

    async def scene() -> None:
        made = house(max_retries=5)
        made.backend.scripts["large"] = failing_once(Unreachable("gone"))
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small", "large"]
        assert b"bad" in reply.choices
        assert made.only(RequestEnded).p_adequate < 0.3, "nothing better is claimed than what was sent"

    virtually(scene)


def test_the_winner_of_a_hedge_is_checked() -> None:
    """Whichever call of a race answered is looked at; the second call goes to neither a third time."""

    async def scene() -> None:
        made = House(
            RequestClass("all", cascade=CHECKED, hedge_after_s=0.2),
            deployments=(
                deployment("small", price=Price(1.0, 1.0)),
                deployment("other", price=Price(1.0, 2.0)),
                deployment("large", Tier.LARGE, price=Price(1.0, 60.0)),
            ),
        )
        made.backend.scripts = {
            "small": never,
            "other": saying("bad", after_s=0.1),
            "large": saying("good"),
        }
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small", "other", "large"]
        assert made.only(CascadeChecked).deployment == "other"
        assert reply.receipt.deployment == "large"
        assert made.in_flight() == 0

    virtually(scene)


def test_there_is_no_second_call_without_room() -> None:
    """Where the other is full the answer in hand is sent at once, and the event says that it was."""

    async def scene() -> None:
        made = house()
        member = made.member("large")
        member.limit.rebound(0.0, 0.0)
        await made.ask(**asking())
        assert made.backend.calls == ["small"]
        assert made.only(CascadeChecked).escalated is False

    virtually(scene)


def test_a_spent_day_leaves_the_first_answer() -> None:
    """What is left of the day's budget does not hold a second call: the first answer is sent, the books are closed."""

    async def scene() -> None:
        made = house(dear=60.0, budget=Budget(usd_per_day=0.002, when_spent=WhenSpent.REJECT))
        made.controller.lengths.observe("all", "model-small", 200, now=0.0)
        reply = await made.ask(**asking())
        assert b"bad" in reply.choices
        assert made.backend.calls == ["small"]
        books = made.controller.spending.books()["all"]
        assert books.open == {}
        assert books.spent_usd == pytest.approx(210e-6)

    virtually(scene)
