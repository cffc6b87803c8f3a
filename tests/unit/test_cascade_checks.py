"""The cascade: a first answer is looked at, and made again where that is worth it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from router.core.cascade.option import given_first
from router.core.evidence import binding
from router.domain.errors import RequestError
from router.domain.events import CascadeChecked, DecisionMade, RequestEnded
from router.domain.reasons import because
from router.domain.slo import QualityFloor
from tests.regressions.house import Reader, virtually
from tests.unit.cascade_house import CHECKED, asking, house, saying, sure_of_fails

AUTO = replace(CHECKED, threshold=None)


def test_an_answer_that_fails_is_made_again_and_both_calls_are_counted() -> None:
    """The sender gets the second; cost, time and attempts are of both; each call is a decision of its own."""

    async def scene() -> None:
        made = house()
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small", "large"]
        assert b"good" in reply.choices
        assert reply.receipt.deployment == "large"
        assert reply.receipt.attempts == 2
        assert reply.receipt.cost_usd == pytest.approx(210e-6 + 10e-6 + 200 * 60e-6)
        first, second = (e.decision for e in made.of(DecisionMade))
        assert (first.chosen, second.chosen) == ("small", "large")
        assert second.propensity == 1.0
        assert reply.receipt.decision_id == second.id
        ended = made.only(RequestEnded)
        assert ended.e2e_s == pytest.approx(1.0)
        assert ended.cost_usd == pytest.approx(reply.receipt.cost_usd)
        assert ended.answer_cost_usd == pytest.approx(10e-6 + 200 * 60e-6)
        assert ended.attempts == 2
        after = made.only(CascadeChecked).p_adequate_after
        assert ended.p_adequate == pytest.approx(given_first(0.95, 0.5, after))
        assert ended.p_adequate < 0.91, "what was hard for one is harder for the other"
        told = made.only(CascadeChecked)
        assert (told.passed, told.why, told.escalated, told.deployment) == (False, "regex", True, "small")
        assert told.p_adequate_before == pytest.approx(0.5)
        assert told.p_adequate_after < 0.3
        assert told.decision_id == first.id
        assert made.in_flight() == 0

    virtually(scene)


def test_an_answer_that_passes_is_sent() -> None:
    """One call, and what the router expects of the answer has risen."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["small"] = saying("good enough")
        reply = await made.ask(**asking())
        assert made.backend.calls == ["small"]
        assert reply.receipt.deployment == "small"
        told = made.only(CascadeChecked)
        assert (told.passed, told.why, told.escalated) == (True, "passed", False)
        assert made.only(RequestEnded).p_adequate == pytest.approx(told.p_adequate_after)
        assert told.p_adequate_after > 0.5

    virtually(scene)


@pytest.mark.parametrize("asked", [{}, asking()])
def test_a_class_without_a_cascade_checks_nothing(asked: dict[str, Any]) -> None:
    """Off by default, also where the sender asks for it."""

    async def scene() -> None:
        made = house(None)
        await made.ask(**asked)
        assert made.backend.calls == ["small"]
        assert made.of(CascadeChecked) == []
        decision = made.only(DecisionMade).decision
        assert all(c.terms.cascade == 0.0 for c in decision.candidates)

    virtually(scene)


def test_a_wrong_pattern_is_refused_before_any_call() -> None:
    """The error says which field, and nothing was spent."""

    async def scene() -> None:
        made = house()
        with pytest.raises(RequestError, match=r"metadata\.verify\.regex"):
            await made.ask(**asking(regex="("))
        assert made.backend.calls == []

    virtually(scene)


def test_gain_against_cost_decides_without_a_threshold() -> None:
    """An answer that surely fails is made again at a price that is worth it and sent as it is at one that is not."""

    async def scene() -> None:
        for dear, calls in ((60.0, ["small", "large"]), (2000.0, ["small"])):
            made = house(AUTO, dear=dear)
            sure_of_fails(made)
            await made.ask(**asking())
            assert made.backend.calls == calls, dear

    virtually(scene)


def test_the_floor_pays_for_a_second_call() -> None:
    """At a price that usefulness alone does not pay, the price of the quality floor does."""

    async def scene() -> None:
        for floor_price, calls in ((0.0, ["small"]), (1.0, ["small", "large"])):
            made = house(AUTO, dear=100.0, floor=QualityFloor(0.9))
            sure_of_fails(made)
            made.controller.duals.floors["all"].value = floor_price
            await made.ask(**asking())
            assert made.backend.calls == calls, floor_price

    virtually(scene)


def test_the_option_is_part_of_the_first_decision() -> None:
    """Where a check can catch what is wrong, the small model is worth more than by itself: it is tried first though
    the large one alone would be better. The log says by how much and why."""

    async def scene() -> None:
        plain, checked = house(None, dear=30.0), house(AUTO, dear=30.0)
        for made in (plain, checked):
            sure_of_fails(made)
            await made.ask(**asking())
        assert plain.backend.calls == ["large"]
        assert checked.backend.calls[0] == "small"
        decision = checked.of(DecisionMade)[0].decision
        small = next(c for c in decision.candidates if c.deployment == "small")
        terms = small.terms
        assert terms.cascade > 0.0
        large = next(c for c in decision.candidates if c.deployment == "large")
        assert small.score - terms.cascade < large.score < small.score
        assert small.score == pytest.approx(terms.useful + terms.floor - terms.cost - terms.capacity + terms.cascade)

    virtually(scene)


def test_a_decision_that_the_option_tipped_says_so() -> None:
    """The constraint is named, and told in a sentence."""

    async def scene() -> None:
        made = house(AUTO)
        await made.ask(**asking())
        decision = made.of(DecisionMade)[0].decision
        small, large = (next(c for c in decision.candidates if c.deployment == name) for name in ("small", "large"))
        ahead = replace(large, score=small.score - 0.01, terms=replace(small.terms, cascade=small.terms.cascade - 0.01))
        assert binding((small, ahead), 0, None) == "cascade"
        told = replace(decision, binding="cascade", candidates=(small, ahead), chosen=small.deployment)
        assert "checked before it is sent" in because(told)

    virtually(scene)


def test_nothing_is_prepared_for_a_class_without_a_cascade() -> None:
    """No checks, no option, no reader in between: the ticket and the decision are as they were."""

    async def scene() -> None:
        made = house(None)
        ticket = made.controller.admit(made.request(**asking()), now=0.0)
        assert ticket.checks is None
        assert made.dispatcher.cascade.hold(ticket, Reader()) is None
        await made.ask(**asking())
        (decision,) = (e.decision for e in made.of(DecisionMade))
        assert all(c.terms.cascade == 0.0 for c in decision.candidates)

    virtually(scene)
