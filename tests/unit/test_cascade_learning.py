"""What checks are worth is learned, and what is drawn to learn it is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from random import Random

import pytest
from msgspec.structs import replace

from router.core import snapshot
from router.core.controller import Controller
from router.domain.deployment import Price, Tier
from router.domain.events import AttemptEnded, CascadeChecked, DecisionMade, RequestEnded
from router.domain.outcome import Attempt, Delta
from router.domain.slo import Budget, RequestClass
from tests.regressions.house import Answer, Estimator, House, deployment, virtually
from tests.unit.cascade_house import CHECKED, asking, house, saying, sure_of_fails

AUTO = replace(CHECKED, threshold=None)


def test_feedback_teaches_the_check_and_leaves_the_model_as_it_was() -> None:
    """Answers of the small model that are sent have passed: being right as often as passed answers are is no news of
    the model. Half its answers are right; of those 95 % pass, of the others 30 %."""
    rng = Random(3)
    passes: dict[str, bool] = {}

    async def small(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        passes[attempt.request.id] = rng.random() < 0.5 * 0.95 + 0.5 * 0.3
        async for delta in saying("good" if passes[attempt.request.id] else "bad", after_s=0.01)(attempt):
            yield delta

    async def scene() -> None:
        made = house()
        sure_of_fails(made, variance=0.1)
        made.backend.scripts["small"] = small
        for i in range(600):
            reply = await made.ask(f"r{i}", **asking())
            if passes[f"r{i}"]:
                is_right = rng.random() < 0.5 * 0.95 / (0.5 * 0.95 + 0.5 * 0.3)
                made.dispatcher.feedback(reply.receipt.decision_id, float(is_right))
        p, _ = made.controller.qualities.correct(0.5, "model-small", "chat")
        assert p == pytest.approx(0.5, abs=0.06)
        mean, variance, *_ = made.controller.checks.state()["model-small\tregex\tpass"]
        assert mean == pytest.approx(1.15, abs=0.25)
        assert variance < 0.03, "it is surer than before"

    virtually(scene)


def test_what_checks_are_worth_survives_a_restart() -> None:
    """The checkpoint carries it."""

    async def scene() -> None:
        made = house()
        sure_of_fails(made)
        fresh = Controller(made.controller.policy, Estimator(), rng=Random(0))
        snapshot.restore(fresh, snapshot.take(made.controller, at=0.0))
        assert fresh.checks.state() == made.controller.checks.state()

    virtually(scene)


def test_quality_rises_as_bayes_says_and_cost_with_it() -> None:
    """A check that catches 70 % of what is wrong at 5 % false alarms, learned from feedback on what is sent, with a
    small model that is right half the time and a large one that is right on .875 of what the small gets wrong.

    By Bayes' rule .375 of the answers fail; .475 are right and pass; of the failed the large one gets .883 right:
    .475 + .375 * .883 = .806 right at the small model's cost and .375 of the large one's.
    """
    rng = Random(11)
    right: dict[tuple[str, str], bool] = {}

    async def small(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        is_right = rng.random() < 0.5
        right[attempt.request.id, "small"] = is_right
        fails = rng.random() < (0.05 if is_right else 0.7)
        async for delta in saying("bad" if fails else "good", after_s=0.01)(attempt):
            yield delta

    async def large(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        chance = 1.0 if right.get((attempt.request.id, "small"), True) else 0.875
        right[attempt.request.id, "large"] = rng.random() < chance
        async for delta in saying("good", after_s=0.01)(attempt):
            yield delta

    async def scene() -> None:
        made = house(AUTO)
        made.backend.scripts = {"small": small, "large": large}
        good = before = 0
        for i in range(3000):
            if i == 1000:
                good, before = 0, len(made.backend.calls)
            name = f"r{i}"
            reply = await made.ask(name, **asking())
            is_right = right[name, reply.receipt.deployment]
            good += is_right
            if rng.random() < 0.3:
                made.dispatcher.feedback(reply.receipt.decision_id, float(is_right))
        later = made.backend.calls[before:]
        assert later.count("small") == 2000
        assert good / 2000 == pytest.approx(0.806, abs=0.03)
        assert later.count("large") / 2000 == pytest.approx(0.375, abs=0.03)
        served = made.of(RequestEnded)[1000:]
        assert sum(e.cost_usd for e in served) / 2000 == pytest.approx(210e-6 + 0.375 * 12010e-6, rel=0.08)
        expected = sum(e.p_adequate for e in served) / 2000
        assert expected == pytest.approx(good / 2000, abs=0.05)
        assert len(made.of(AttemptEnded)) == len(made.backend.calls)

    virtually(scene)


def _chance_to_escalate(told: CascadeChecked) -> float:
    if told.escalated:
        return told.propensity
    return 1.0 - told.propensity


def explored(share: float, small: Answer, budget: Budget | None = None) -> House:
    """A small model and three large ones, of which one is dear."""
    fleet = (
        deployment("small", price=Price(1.0, 1.0)),
        deployment("large", Tier.LARGE, price=Price(1.0, 40.0)),
        deployment("extra", Tier.LARGE, price=Price(1.0, 42.0)),
        deployment("gold", Tier.LARGE, price=Price(1.0, 80.0)),
    )
    terms = RequestClass("all", cascade=CHECKED, exploration_ratio=share, budget=budget or Budget())
    made = House(terms, deployments=fleet)
    made.backend.scripts = dict.fromkeys((d.name for d in fleet), saying("good", after_s=0.01))
    made.backend.scripts["small"] = small
    for one in fleet:
        for _ in range(200):
            made.controller.lengths.observe("all", one.model, 200, now=0.0)
    return made


def sure_that_half_fails(made: House) -> None:
    """Feedback has shown that what fails the pattern is wrong; half of what comes does."""
    state = {
        "model-small\tregex\tfail": [-5.0, 0.01, 1e4, 0.5],
        "model-small\tregex\tpass": [1.15, 0.01, 1e4, 0.5],
    }
    made.controller.checks.restore(state)


def test_what_explores_a_second_time_is_in_the_bounds_of_the_request() -> None:
    """Nobody is explored who would be too dear together with the first call, though not alone."""

    async def scene() -> None:
        gold_usd, first_usd = 10e-6 + 200 * 80e-6, 210e-6
        seen: Counter[str] = Counter()
        for spare in (5.0, 0.5):
            made = explored(1.0, saying("bad", after_s=0.01), Budget(usd_per_request=gold_usd + spare * first_usd))
            sure_that_half_fails(made)
            for i in range(300):
                await made.ask(f"r{i}", **asking())
            for event in made.of(DecisionMade):
                decision = event.decision
                if any(e.code == "tried" for e in decision.excluded):
                    seen[f"{decision.chosen} {spare}"] += 1
        assert seen["gold 5.0"] > 5, seen
        assert seen["gold 0.5"] == 0
        assert seen["extra 0.5"] > 5

    virtually(scene)


def test_propensities_are_those_of_the_picks() -> None:
    """With a share that explores, first and second picks come as often as their decisions say, and failed answers are
    sent to learn from as often as the checks' records say."""

    async def scene() -> None:
        made = explored(0.4, saying("bad", after_s=0.01))
        sure_that_half_fails(made)
        picks: Counter[tuple[int, str]] = Counter()
        expected: Counter[tuple[int, str]] = Counter()
        times = 3000
        escalated = 0.0
        for i in range(times):
            before = len(made.events)
            await made.ask(f"r{i}", **asking())
            for told in made.of(CascadeChecked):
                escalated += told.escalated - _chance_to_escalate(told)
            made_now = [e.decision for e in made.events[before:] if isinstance(e, DecisionMade)]
            for number, decision in enumerate(made_now):
                assert sum(c.propensity for c in decision.candidates) == pytest.approx(1.0)
                picks[number, decision.chosen] += 1
                for candidate in decision.candidates:
                    expected[number, candidate.deployment] += candidate.propensity  # type: ignore[assignment]
            made.events.clear()
        again = sum(n for (number, _), n in picks.items() if number == 1)
        assert again > 0.3 * times
        assert abs(escalated) < 4.0 * again**0.5
        for key in expected:
            deviation = (max(expected[key], 1.0)) ** 0.5
            assert abs(picks[key] - expected[key]) < 4.0 * deviation + 1.0, key

    virtually(scene)
