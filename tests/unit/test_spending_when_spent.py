"""What a class gets whose budget of the day is spent: a refusal, the cheapest, or the next day."""

from __future__ import annotations

import asyncio

import pytest

from router.core.spending.account import DAY_S
from router.core.spending.spending import Paid
from router.domain.deployment import Kind, Price, Tier, TokenQuota
from router.domain.errors import Rejected, RequestError, Unreachable
from router.domain.events import BudgetChanged, DecisionMade, RequestEnded
from router.domain.outcome import Reply
from router.domain.slo import Indicator, Objective, Objectives, RequestClass, WhenSpent
from router.policy.policy import Bounds
from tests.regressions.house import cancel, code_of, deployment, failing, never, speaking, virtually
from tests.unit.budgeted_house import CHEAP, DEAR, RESERVED_USD, books, home, refused, spend


def test_reject_says_insufficient_quota_until_midnight() -> None:
    """A 429 with the seconds to the next day; at midnight the class is served again."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, RESERVED_USD * 1.2)
        await asyncio.sleep(1000.0)
        first = house.going(model="small")
        await asyncio.sleep(0.05)
        error = await refused(house)
        assert isinstance(error, Rejected)
        assert (error.code, error.http_status) == ("insufficient_quota", 429)
        assert error.retry_after_s == pytest.approx(DAY_S - 1000.05)
        await first
        await house.ask("fits again")
        house.controller.spending.recover([Paid("x", "all", 1.0, 1000.0)], at=1001.0)
        assert (await refused(house)).code == "insufficient_quota"
        await asyncio.sleep(DAY_S - 1000.0)
        await house.ask("tomorrow")

    virtually(scene)


def test_cheapest_goes_on_with_the_cheapest_alone() -> None:
    """Past the budget the cheapest by expected cost is called, though its score is lower, and spending goes on."""

    async def scene() -> None:
        house = home(WhenSpent.CHEAPEST, 1.0, objectives=Objectives())
        house.backend.scripts = {"small": speaking("s", first_s=0.1), "large": speaking("l", first_s=0.1)}
        assert (await house.ask("before", model="large")).receipt.deployment == "large"
        await house.beat(1.5)
        spend(house, 1.0)
        for i in range(3):
            assert (await house.ask(f"{i}")).receipt.deployment == "small"
        assert books(house)[0] > 1.0
        assert (await house.ask("forced", model="large")).receipt.deployment == "large", "it is the cheapest asked for"
        await house.beat(1.5)
        assert [(e.open, e.spent_usd > 1.0) for e in house.of(BudgetChanged)] == [(False, True)]

    virtually(scene)


def test_cheapest_takes_the_next_when_the_cheapest_is_ill() -> None:
    """A deployment whose circuit is open is not waited for."""

    async def scene() -> None:
        house = home(WhenSpent.CHEAPEST, 1.0, max_retries=5)
        house.backend.scripts = {"small": failing(Unreachable("no"))}
        spend(house, 1.0)
        replies = [await house.attempt(f"{i}") for i in range(6)]
        assert house.member("small").circuit.blocked(now=asyncio.get_running_loop().time())
        assert isinstance(replies[-1], Reply)
        assert replies[-1].receipt.deployment == "large"

    virtually(scene)


@pytest.mark.parametrize("when", list(WhenSpent))
def test_what_is_paid_by_the_hour_goes_on(when: WhenSpent) -> None:
    """Reserved capacity costs nothing a call: it serves past the budget. The class waits for its room, but for one that
    is to be refused: that is told at once."""

    async def scene() -> None:
        reserved = deployment(
            "reserved", kind=Kind.PROVISIONED, price=Price(0.0, 0.0, 20.0), quota=TokenQuota(1e6, 1e6), max_in_flight=1
        )
        house = home(when, 0.001, deployments=(reserved, deployment("large", Tier.LARGE, price=DEAR)))
        spend(house, 0.001)
        tasks = [house.going(f"{i}") for i in range(3)]
        await house.beat(3.0)
        assert tasks[0].result().receipt.deployment == "reserved"
        for task in tasks[1:]:
            if when is WhenSpent.REJECT:
                error = task.exception()
                assert isinstance(error, Rejected)
                assert error.code == "insufficient_quota"
            else:
                assert task.result().receipt.deployment == "reserved"

    virtually(scene)


def test_queue_waits_past_every_patience_for_the_next_day() -> None:
    """Neither `queue_wait` nor an objective that a sheddable class has missed ends it; at midnight it is decided as if
    it had just come, and measured from when it did."""

    async def scene() -> None:
        promised = Objectives(ttft=Objective(Indicator.TTFT, 1.0))
        house = home(WhenSpent.QUEUE, 1.0, sheddable=True, objectives=promised, bounds=Bounds(queue_wait_s=5.0))
        spend(house, 1.0)
        task = house.going("r")
        await house.beat(600.0, 10.0)
        assert code_of(task) == "waiting"
        assert (len(house.dispatcher.queue), house.dispatcher.queue.waiting, house.dispatcher.held("http")) == (1, 0, 1)
        await house.beat(DAY_S - 590.0, 10.0)
        reply = task.result()
        assert reply.receipt.queue_s == pytest.approx(DAY_S, rel=0.001)
        decision = house.only(DecisionMade).decision
        assert max(c.terms.p_slo for c in decision.candidates) > 0.5
        assert house.only(RequestEnded).ttft_s > DAY_S - 1.0
        assert house.dispatcher.held("http") == 0

    virtually(scene)


def test_a_deadline_ends_waiting_for_a_budget() -> None:
    """It is an answer of its time or none."""

    async def scene() -> None:
        house = home(WhenSpent.QUEUE, 1.0)
        spend(house, 1.0)
        task = house.going("r", deadline_s=30.0)
        await house.beat(31.0)
        assert code_of(task) == "deadline_exceeded"
        assert (len(house.dispatcher.queue), house.dispatcher.held("http")) == (0, 0)

    virtually(scene)


def test_who_waits_for_a_budget_stands_in_nobodys_way() -> None:
    """A full house of them leaves other classes their places, and one more of their own is told so."""

    async def scene() -> None:
        house = home(WhenSpent.QUEUE, 1.0, RequestClass("other"), bounds=Bounds(queue_requests=4))
        house.backend.scripts = {"small": never, "large": never}
        spend(house, 1.0)
        held = [house.going(f"h{i}", request_class="all") for i in range(5)]
        await house.beat(1.0)
        assert [code_of(task) for task in held] == ["waiting"] * 4 + ["insufficient_quota"]
        assert house.dispatcher.has_room()
        error = held[-1].exception()
        assert isinstance(error, Rejected)
        assert error.retry_after_s == pytest.approx(DAY_S)
        limits = [house.member(name).limit for name in ("small", "large")]
        fill = [house.going(f"o{i}", request_class="other") for i in range(round(sum(x.value for x in limits)) + 4)]
        await house.beat(0.5)
        assert house.dispatcher.queue.waiting == 4, "all four places for who waits for room"
        await cancel(*held, *fill)
        assert len(house.dispatcher.queue) == 0

    virtually(scene)


def test_the_next_day_comes_at_the_pace_of_the_limits() -> None:
    """Of 40 who waited for the day no more are called at once than fit; the others go on without being told that they
    have waited too long."""

    async def scene() -> None:
        one = deployment("small", price=CHEAP, max_in_flight=2)
        house = home(WhenSpent.QUEUE, 1.0, deployments=(one,), bounds=Bounds(queue_wait_s=2.0))
        spend(house, 1.0)
        tasks = [house.going(f"{i}") for i in range(40)]
        await house.beat(DAY_S - 5.0, 5.0)
        assert {code_of(task) for task in tasks} == {"waiting"}
        most = 0
        for _ in range(250):
            await house.beat(0.1)
            most = max(most, house.in_flight())
        assert most == 2
        assert {code_of(task) for task in tasks} == {"ok"}

    virtually(scene)


def test_shutting_down_sends_who_waits_for_a_budget_away_at_once() -> None:
    """`draining`, which the queue ingress keeps in its journal; those who come later are told the same."""

    async def scene() -> None:
        house = home(WhenSpent.QUEUE, 1.0)
        spend(house, 1.0)
        task = house.going("r")
        await asyncio.sleep(0.0)
        house.dispatcher.turn_away()
        await asyncio.sleep(0.0)
        assert code_of(task) == "draining"
        assert (await refused(house)).code == "draining"

    virtually(scene)


def test_what_can_never_be_served_does_not_wait_for_a_budget() -> None:
    """A prompt that no context window holds is told so today."""

    async def scene() -> None:
        tight = deployment("small", price=CHEAP, context_tokens=100)
        house = home(WhenSpent.QUEUE, 1.0, deployments=(tight,))
        spend(house, 1.0)
        assert isinstance(await refused(house, input_tokens=101), RequestError)

    virtually(scene)
