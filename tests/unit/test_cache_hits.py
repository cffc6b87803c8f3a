"""The exact response cache: the same question of the same tenant is answered once, and what that counts for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.deployment import Tier
from router.domain.errors import Unreachable
from router.domain.events import CACHE, AttemptEnded, CacheUsed, ExperimentObserved, RequestEnded
from router.domain.outcome import Attempt, Delta
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.domain.slo import Indicator, Objective, Objectives
from router.wire.openai import delta_choices
from tests.regressions.house import House, deployment, never, virtually, well
from tests.unit.cached_house import ANSWER, CACHED, HELLO, ONLY, body, house, text, used


def test_the_same_question_is_answered_once() -> None:
    """The second reply is the first, at no cost, with no attempt, in no time, under the decision that made it."""

    async def scene() -> None:
        told = house()
        first = await told.ask("a", payload=HELLO)
        before = asyncio.get_running_loop().time()
        second = await told.ask("b", payload=body(temperature=0.0, user="u7"))
        assert asyncio.get_running_loop().time() == before
        assert told.backend.calls == ["only"]
        assert (second.choices, second.usage) == (first.choices, first.usage)
        made, given = first.receipt, second.receipt
        assert (given.decision_id, given.deployment, given.model) == (made.decision_id, made.deployment, made.model)
        assert (given.attempts, given.cost_usd, given.cache, made.cache) == (0, 0.0, "hit", "")
        assert second.request.id == "b"
        assert told.of(CacheUsed) == [CacheUsed("all", "miss"), CacheUsed("all", "hit", made.cost_usd)]
        assert told.dispatcher.in_flight == 0

    virtually(scene)


def test_a_hit_counts_for_the_class_and_for_no_deployment() -> None:
    """Its promises are judged, its quality is that of the answer, its deployment is `cache`, and nothing is called."""

    async def scene() -> None:
        promised = Objectives(ttft=Objective(Indicator.TTFT, 0.05), availability=Objective(Indicator.AVAILABILITY, 0.0))
        limited = replace(CACHED, objectives=promised, deployments=("only",))
        told = house(limited, deployments=(*ONLY, deployment("large", Tier.LARGE)))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        made, given = told.of(RequestEnded)
        assert (given.deployment, given.tier, given.model) == (CACHE, "", made.model)
        assert (given.status, given.attempts, given.cost_usd, given.code) == ("completed", 0, 0.0, None)
        assert (made.slo_met, given.slo_met) == (False, True)
        assert dict(given.met) == {"ttft": True, "availability": True}
        assert given.p_adequate == made.p_adequate is not None
        assert given.baseline_cost_usd == made.baseline_cost_usd > 0.0
        assert given.decision_id == made.decision_id
        assert len(told.of(AttemptEnded)) == 1

    virtually(scene)


def test_feedback_on_a_hit_goes_to_the_decision_that_made_the_answer() -> None:
    """And is known there."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        reply = await told.ask("b", payload=HELLO)
        assert told.dispatcher.feedback(reply.receipt.decision_id, 1.0)

    virtually(scene)


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": body("hello!")},
        {"payload": body(max_tokens=5), "max_tokens": 5},
        {"payload": body(seed=1)},
        {"payload": HELLO, "tenant": "other"},
        {"payload": HELLO, "model": "only"},
    ],
)
def test_another_question_is_another_call(fields: dict[str, Any]) -> None:
    """Other words, other parameters, another tenant, another deployment asked for."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        await told.ask("b", **fields)
        assert len(told.backend.calls) == 2
        assert used(told) == ["miss", "miss"]

    virtually(scene)


def test_another_class_is_another_question() -> None:
    """Two classes that treat a request alike still answer apart."""

    async def scene() -> None:
        told = House(replace(CACHED, name="one"), replace(CACHED, name="two"), deployments=ONLY)
        for name in ("one", "two", "one", "two"):
            await told.ask(name, payload=HELLO, request_class=name)
        assert [(e.request_class, e.result) for e in told.of(CacheUsed)] == [
            ("one", "miss"),
            ("two", "miss"),
            ("one", "hit"),
            ("two", "hit"),
        ]

    virtually(scene)


def test_the_arms_of_an_experiment_answer_apart() -> None:
    """Also where they differ in nothing: each arm makes its own answer."""

    async def scene() -> None:
        arms = (Arm("a", 0.5), Arm("b", 0.5))
        told = house(replace(CACHED, rollout=Rollout(RolloutMode.AB, arms=arms)))
        for i in range(20):
            await told.ask(f"r{i}", payload=HELLO)
        ended = told.of(RequestEnded)
        assert {e.arm for e in ended if e.deployment != CACHE} == {e.arm for e in ended if e.deployment == CACHE}
        assert len(told.backend.calls) == 2

    virtually(scene)


def test_hits_are_no_evidence_for_an_arm() -> None:
    """The same answer given again tells nothing new, and would hide what the calls do."""

    async def scene() -> None:
        told = house(replace(CACHED, rollout=Rollout(RolloutMode.AB, arms=(Arm("a", 0.5), Arm("b", 0.5)))))
        for i in range(20):
            await told.ask(f"r{i}", payload=HELLO)
        for _ in range(10):
            told.dispatcher.tick()
        assert {e.requests for e in told.of(ExperimentObserved)} == {1}

    virtually(scene)


def test_an_answer_is_given_until_its_time_is_over() -> None:
    """The time counts from the end of the answer; a hit does not prolong it."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        await asyncio.sleep(59.9)
        await told.ask("b", payload=HELLO)
        await asyncio.sleep(0.2)
        await told.ask("c", payload=HELLO)
        assert used(told) == ["miss", "hit", "miss"]

    virtually(scene)


def test_a_class_without_a_cache_asks_every_time() -> None:
    """And tells nothing of a cache."""

    async def scene() -> None:
        told = house(replace(CACHED, cache=None))
        await told.ask("a", payload=HELLO)
        await told.ask("b", payload=HELLO)
        assert len(told.backend.calls) == 2
        assert used(told) == []

    virtually(scene)


def test_a_hit_needs_no_deployment_and_no_journal() -> None:
    """It is answered while the deployment hangs, and nobody is told that a call is about to be made."""

    async def scene() -> None:
        told = house()
        noted: list[str] = []

        async def on_call() -> None:
            noted.append("call")

        await told.ask("a", payload=HELLO, on_call=on_call)
        told.backend.scripts = {"only": never}
        assert text(await told.ask("b", payload=HELLO, on_call=on_call)) == ANSWER
        assert noted == ["call"]

    virtually(scene)


def test_calls_that_an_earlier_life_made_are_still_told() -> None:
    """A message that a crash cut off and the cache answers now had its attempts."""

    async def scene() -> None:
        told = house()
        await told.ask("a", payload=HELLO)
        reply = await told.ask("b", payload=HELLO, attempts_before=2)
        assert reply.receipt.attempts == 2

    virtually(scene)


RETRIED = (deployment("one"), deployment("two", Tier.LARGE))


def test_a_retried_answer_costs_what_was_paid() -> None:
    """What a hit saves is all that the answer had cost; the receipt names the deployment that answered in the end."""

    async def scene() -> None:
        async def half(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            yield Delta(delta_choices("x"), 1)
            raise Unreachable("gone")

        told = house(deployments=RETRIED)
        told.backend.scripts = {"two": half, "one": well}
        made = await told.ask("a", payload=HELLO)
        given = await told.ask("b", payload=HELLO)
        assert told.backend.calls == ["two", "one"]
        assert given.receipt.deployment == "one"
        assert told.of(CacheUsed)[-1].saved_usd == made.receipt.cost_usd > 13e-6

    virtually(scene)
