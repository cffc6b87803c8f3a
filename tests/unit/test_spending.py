"""What a class gets whose budget of the day is spent, and what its budget remembers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from router.core import snapshot
from router.core.feedback import Feedback
from router.core.spending.account import DAY_S
from router.core.spending.spending import Paid
from router.domain.deployment import Kind, Price, Tier, TokenQuota
from router.domain.errors import Rejected, RequestError, RouterError, Unreachable
from router.domain.events import AttemptEnded, BudgetChanged, BudgetObserved, DecisionMade, RequestEnded
from router.domain.outcome import Ending, Outcome, Reply
from router.domain.slo import Budget, Goal, Indicator, Objective, Objectives, RequestClass, WhenSpent
from router.policy.policy import Bounds, Policy
from router.routing.pickers import LeastOutstanding
from router.routing.profile import baseline
from tests.regressions.house import House, cancel, code_of, deployment, failing, never, speaking, virtually

CHEAP, DEAR = Price(1.0, 1.0), Price(100.0, 100.0)
RESERVED_USD = 807e-6 + 10e-6
"""What a call of the cheap one may cost before anything was learned: the p97 of the prior and a prompt of ten."""


def home(when: WhenSpent, usd_per_day: float, *others: RequestClass, **fields: Any) -> House:
    """A class `all` with a budget, a cheap and a dear deployment."""
    bounds = fields.pop("bounds", None)
    listed = fields.pop("deployments", None) or (
        deployment("small", price=CHEAP),
        deployment("large", Tier.LARGE, price=DEAR),
    )
    budgeted = RequestClass("all", budget=Budget(usd_per_day=usd_per_day, when_spent=when), **fields)
    return House(budgeted, *others, deployments=listed, bounds=bounds)


def books(house: House, name: str = "all") -> tuple[float, float]:
    """Spent and reserved."""
    kept = house.controller.spending.books()[name]
    return kept.spent_usd, sum(kept.open.values())


async def refused(house: House, **fields: Any) -> RouterError:
    """Why a request is refused."""
    with pytest.raises(RouterError) as error:
        await house.ask("r", **fields)
    return error.value


def test_a_candidate_that_may_not_fit_falls_out_and_says_why() -> None:
    """With room for a cheap call only, the dear one is excluded as `budget_spent`, and what is left pays the cheap."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 0.01)
        await house.ask("r", model=None)
        decision = house.only(DecisionMade).decision
        assert decision.chosen == "small"
        (excluded,) = decision.excluded
        assert (excluded.deployment, excluded.code) == ("large", "budget_spent")
        assert "0.010000" in excluded.detail
        assert "86400 s to the next day" in excluded.detail

    virtually(scene)


def test_a_call_is_reserved_when_it_is_decided_and_settled_when_it_ends() -> None:
    """In flight it holds the p97 of its length, then what it cost; and telling its end twice counts once."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        task = house.going(model="small")
        await asyncio.sleep(0.05)
        assert books(house) == (0.0, pytest.approx(RESERVED_USD, rel=0.01))
        await task
        assert books(house) == (pytest.approx(13e-6), 0.0)
        ended = house.only(AttemptEnded)
        house.controller.spending.settle("all", ended.outcome)
        assert books(house) == (pytest.approx(13e-6), 0.0)

    virtually(scene)


def test_a_short_max_tokens_reserves_no_more_than_it_can_cost() -> None:
    """With `max_tokens` 20 a call of the cheap one reserves 30 tokens' worth."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        task = house.going(model="small", max_tokens=20)
        await asyncio.sleep(0.05)
        assert books(house)[1] == pytest.approx(30e-6)
        await task

    virtually(scene)


@pytest.mark.parametrize(("when_cut", "tokens"), [(0.05, 0), (0.25, 2)])
def test_a_cancelled_call_costs_what_it_cost(when_cut: float, tokens: int) -> None:
    """Its reservation is given back for what the backend is paid."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        task = house.going(model="small")
        await asyncio.sleep(when_cut)
        await cancel(task)
        assert books(house) == (pytest.approx((10 + tokens) * 1e-6), 0.0)
        assert house.only(RequestEnded).cost_usd == pytest.approx((10 + tokens) * 1e-6)

    virtually(scene)


def test_a_failed_call_gives_its_reservation_back_and_its_retry_takes_one() -> None:
    """Each attempt is counted for itself."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        house.backend.scripts = {"small": failing(Unreachable("no")), "large": speaking("l", first_s=0.1)}
        await house.ask("r")
        reply = house.only(RequestEnded)
        assert books(house) == (pytest.approx(reply.cost_usd), 0.0)
        assert reply.answer_cost_usd == pytest.approx(15e-4)

    virtually(scene)


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


def spend(house: House, usd: float, name: str = "all") -> None:
    """As if calls of the class had cost this much today."""
    at = asyncio.get_running_loop().time()
    house.controller.spending.recover([Paid("spent", name, usd, at)], at=at)


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


def edited(house: House, *classes: RequestClass) -> None:
    """Put other classes in force."""
    now = asyncio.get_running_loop().time()
    policy = Policy(f"{house.controller.policy.digest}+", classes, house.listed, house.bounds)
    house.controller.apply(policy, now=now, at=now)


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


def test_what_can_never_be_served_does_not_wait_for_a_budget() -> None:
    """A prompt that no context window holds is told so today."""

    async def scene() -> None:
        tight = deployment("small", price=CHEAP, context_tokens=100)
        house = home(WhenSpent.QUEUE, 1.0, deployments=(tight,))
        spend(house, 1.0)
        assert isinstance(await refused(house, input_tokens=101), RequestError)

    virtually(scene)


def test_a_failure_is_the_answer_where_the_budget_holds_no_other_call() -> None:
    """The cheap one has failed for good and the dear one does not fit: the sender hears what failed."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 0.01, max_retries=1)
        house.backend.scripts = {"small": failing(Unreachable("no"))}
        assert (await refused(house)).code == "unreachable"
        assert house.backend.calls == ["small", "small"], "tried again, as nobody else may"

    virtually(scene)


def test_a_failure_is_the_answer_where_the_budget_is_gone_when_it_is_tried_again() -> None:
    """Others have spent it meanwhile: the sender hears what failed, not what came after."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 0.01)
        house.backend.scripts = {"small": failing(Unreachable("no"))}
        task = house.going("r")
        await asyncio.sleep(0.1)
        spend(house, 0.01)
        await house.beat(1.0)
        assert (code_of(task), house.backend.calls) == ("unreachable", ["small"])

    virtually(scene)


def test_a_hedge_that_the_budget_does_not_hold_is_not_made() -> None:
    """The first call goes on alone, and nobody is told of an error."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 0.01, hedge_after_s=0.2)
        house.backend.scripts = {"small": speaking("s", first_s=1.0)}
        with capture_logs() as said:
            assert (await house.ask("r")).receipt.attempts == 1
        assert (house.backend.calls, said) == (["small"], [])

    virtually(scene)


def test_a_call_whose_end_is_never_told_gives_its_reservation_back() -> None:
    """A minute after its deadline; what it cost still counts, once, if it is ever told."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        ticket = house.controller.admit(house.request("r", deadline_s=10.0, model="small"), now=0.0)
        house.controller.decide(ticket, now=0.0)
        attempt, permit = house.controller.start(ticket, now=0.0)
        await house.beat(69.0, 1.0)
        assert books(house)[1] > 0.0
        await house.beat(3.0, 1.0)
        assert books(house) == (0.0, 0.0)
        late = Outcome(attempt, Ending.CANCELLED, 72.0, None, 10, 5, 15e-6)
        for _ in range(2):
            Feedback(house.controller).on_outcome(ticket, permit, late)
        assert books(house) == (15e-6, 0.0)

    virtually(scene)


def test_the_budget_is_told_once_a_second_and_its_turns_with_their_reasons() -> None:
    """Spent, then open again by a raised limit and by a new day."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1.0)
        await house.beat(3.05)
        assert len(house.of(BudgetObserved)) == 3
        spend(house, 1.0)
        await house.attempt("r")
        await house.beat(1.5)
        edited(house, replace(house.classes[0], budget=Budget(usd_per_day=2.0)))
        await house.ask("r", model="small")
        await house.beat(1.5)
        spend(house, 2.0)
        await house.attempt("r")
        await house.beat(1.5)
        await asyncio.sleep(DAY_S)
        await house.beat(1.5)
        told = [(e.open, e.reason, e.limit_usd) for e in house.of(BudgetChanged)]
        assert told == [
            (False, "what is left does not hold another call", 1.0),
            (True, "the limit was raised", 2.0),
            (False, "what is left does not hold another call", 2.0),
            (True, "a new day", 2.0),
        ]
        assert house.of(BudgetObserved)[-1] == BudgetObserved("all", 0.0, 0.0, 2.0)

    virtually(scene)


def test_a_budget_that_ends_within_a_second_is_told_as_spent_in_the_next() -> None:
    """Also where nobody asks again after the last refusal."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, RESERVED_USD * 1.01)
        await house.beat(1.05)
        await house.ask("fits", model="small", max_tokens=3)
        await house.attempt("fits no more", input_tokens=10_000)
        await house.beat(1.0)
        assert house.of(BudgetChanged) == []
        await house.beat(1.0)
        assert [e.open for e in house.of(BudgetChanged)] == [False]

    virtually(scene)


def test_classes_do_not_pay_for_each_other() -> None:
    """One that has spent its budget leaves another its own, and one without a budget keeps no books."""

    async def scene() -> None:
        second = RequestClass("second", budget=Budget(usd_per_day=1.0))
        house = home(WhenSpent.REJECT, 1.0, second, RequestClass("free"))
        spend(house, 1.0)
        assert (await refused(house, request_class="all")).code == "insufficient_quota"
        await house.ask("s", request_class="second")
        await house.ask("f", request_class="free")
        assert set(house.controller.spending.books()) == {"all", "second"}

    virtually(scene)


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


def test_baselines_do_not_keep_to_a_budget() -> None:
    """What the router is compared with has none; what it pays is still counted."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1e-9, goal=Goal.COST)
        house.controller.profile = baseline(LeastOutstanding())
        house.controller._weigher._profile = house.controller.profile
        await house.ask("r")
        assert books(house)[0] > 0.0

    virtually(scene)
