"""What a call reserves of the budget of its class, what it costs in the end, and what of that is told."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from router.core.feedback import Feedback
from router.core.spending.account import DAY_S
from router.domain.errors import Unreachable
from router.domain.events import AttemptEnded, BudgetChanged, BudgetObserved, DecisionMade, RequestEnded
from router.domain.outcome import Ending, Outcome
from router.domain.slo import Budget, Goal, RequestClass, WhenSpent
from router.routing.pickers import LeastOutstanding
from router.routing.profile import baseline
from tests.regressions.house import cancel, code_of, failing, speaking, virtually
from tests.unit.budgeted_house import RESERVED_USD, books, edited, home, refused, spend


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


def test_baselines_do_not_keep_to_a_budget() -> None:
    """What the router is compared with has none; what it pays is still counted."""

    async def scene() -> None:
        house = home(WhenSpent.REJECT, 1e-9, goal=Goal.COST)
        house.controller.profile = baseline(LeastOutstanding())
        house.controller._weigher._profile = house.controller.profile
        await house.ask("r")
        assert books(house)[0] > 0.0

    virtually(scene)
