"""Answers that whoever the request names looks at: who is asked, for how long, and what a verdict does."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from msgspec.structs import replace

from router.domain.errors import RequestError, Unreachable
from router.domain.events import AttemptEnded, CascadeChecked, DecisionMade, RequestEnded
from router.domain.outcome import Ending, Reply
from router.domain.slo import Budget, Check, Indicator, Objective, Objectives
from tests.regressions.house import cancel, failing, never, virtually
from tests.unit.cascade_house import ASKED, Judge, asking, house, judged, saying, sure_of_verdicts

AUTO = replace(ASKED, threshold=None)


def test_a_verdict_against_an_answer_makes_it_again() -> None:
    """Whoever the request names sees the answer before its sender does, and is asked no second time."""

    async def scene() -> None:
        judge = Judge(False)
        made = judged(house(ASKED), judge)
        reply = await made.ask(**asking(callback="plant/checks"))
        assert made.backend.calls == ["small", "large"]
        assert b"good" in reply.choices
        (question,) = judge.asked
        assert (question.topic, question.request_id, question.deployment) == ("plant/checks", "r", "small")
        assert b"bad" in question.choices
        told = made.only(CascadeChecked)
        assert (told.why, told.grades, told.escalated) == ("callback", (("callback", "fail"),), True)
        assert question.decision_id == told.decision_id

    virtually(scene)


def test_a_verdict_for_an_answer_sends_it() -> None:
    """It is sent when the verdict is there, and what is expected of it has risen."""

    async def scene() -> None:
        made = judged(house(ASKED), Judge(True, after_s=0.2))
        reply = await made.ask(**asking(callback="c"))
        assert made.backend.calls == ["small"]
        assert b"bad" in reply.choices
        ended = made.only(RequestEnded)
        assert ended.e2e_s == pytest.approx(0.7)
        assert ended.p_adequate > 0.5

    virtually(scene)


def test_who_says_nothing_is_waited_for_no_longer_than_the_class_allows() -> None:
    """The answer goes out at the bound, or in time for the deadline, unchecked."""

    async def scene() -> None:
        for deadline_s, expected_s in ((None, 2.5), (2.0, 1.95)):
            made = judged(house(replace(ASKED, max_wait_s=2.0)), Judge(None, after_s=100.0))
            reply = await made.ask(deadline_s=deadline_s, **asking(callback="c"))
            assert b"bad" in reply.choices
            assert made.only(RequestEnded).e2e_s == pytest.approx(expected_s)
            assert made.of(CascadeChecked) == [], "nothing is known of it"

    virtually(scene)


def test_a_check_that_fails_asks_nobody() -> None:
    """What is known to be bad needs no verdict."""

    async def scene() -> None:
        judge = Judge(True)
        made = judged(house(replace(ASKED, checks=(Check.REGEX, Check.CALLBACK))), judge)
        await made.ask(**asking(regex="^good", callback="c"))
        assert judge.asked == []
        assert made.only(CascadeChecked).why == "regex"

    virtually(scene)


@pytest.mark.parametrize(("topic", "says"), [("c", "no broker"), ("closed", "it is closed")])
def test_who_cannot_be_asked_is_refused_before_any_call(topic: str, says: str) -> None:
    """The error names the field, the reason and what to do; nothing was spent."""

    async def scene() -> None:
        made = house(ASKED) if topic == "c" else judged(house(ASKED), Judge(True))
        with pytest.raises(RequestError, match=f"callback: .*{says}.*leave it out") as caught:
            await made.ask(**asking(callback=topic))
        assert caught.value.param == "metadata.verify.callback"
        assert made.backend.calls == []
        assert made.dispatcher.in_flight == 0

    virtually(scene)


def test_asking_is_left_where_it_is_not_worth_the_wait() -> None:
    """Without a threshold the wait is weighed: with a second to spare somebody is asked, with none nobody is."""

    async def scene() -> None:
        for promised_s, times in ((60.0, 1), (3.0, 0)):
            judge = Judge(False)
            made = judged(house(AUTO, objectives=Objectives(e2e=Objective(Indicator.E2E, promised_s))), judge)
            sure_of_verdicts(made)
            for _ in range(30):
                made.controller.checks.verdicts.observe("all", 2.5, answered=True)
            await made.ask(**asking(callback="c"))
            assert len(judge.asked) == times, promised_s

    virtually(scene)


def test_who_never_answers_is_asked_no_more_and_tried_again_later() -> None:
    """After some verdicts that never came the wait is not worth it; after many requests somebody is asked again."""

    async def scene() -> None:
        judge = Judge(None, after_s=100.0)
        slow = Objectives(e2e=Objective(Indicator.E2E, 30.0))
        made = judged(house(replace(AUTO, max_wait_s=8.0), objectives=slow), judge)
        sure_of_verdicts(made)
        asked = []
        for i in range(300):
            await made.ask(f"r{i}", **asking(callback="c"))
            asked.append(len(judge.asked))
        assert asked[0] == 1
        assert asked[99] < 40
        assert 0 < asked[-1] - asked[99] < 20, "it has not been forgotten for good"

    virtually(scene)


def test_a_sender_who_leaves_while_somebody_is_asked_leaves_nothing_behind() -> None:
    """No permit, no second call; the end is counted as the sender's going."""

    async def scene() -> None:
        judge = Judge(False, after_s=5.0)
        made = judged(house(ASKED), judge)
        task = made.going(**asking(callback="c"))
        await asyncio.sleep(1.0)
        assert len(judge.asked) == 1
        await cancel(task)
        assert judge.left == 1
        assert made.backend.calls == ["small"]
        assert made.only(RequestEnded).code == "client_gone"
        assert made.in_flight() == made.dispatcher.in_flight == 0

    virtually(scene)


@pytest.mark.parametrize("forced", ["small", "model-small"])
def test_what_is_asked_for_by_name_is_not_made_elsewhere(forced: str) -> None:
    """Whoever names a deployment or a model gets its answer, unchecked and unasked."""

    async def scene() -> None:
        judge = Judge(False)
        made = judged(house(replace(ASKED, checks=tuple(Check))), judge)
        await made.ask(model=forced, **asking(regex="^good", callback="c"))
        assert made.backend.calls == ["small"]
        assert made.of(CascadeChecked) == []
        assert judge.asked == []

    virtually(scene)


def test_the_bound_of_a_request_holds_both_calls_in_the_first_decision_too() -> None:
    """Where both together are too dear, the option is worth nothing before the first call is made."""

    async def scene() -> None:
        terms = []
        for usd in (1.0, 1e-3):
            made = judged(house(AUTO, dear=30.0, budget=Budget(usd_per_request=usd)), Judge(False))
            sure_of_verdicts(made)
            await made.ask(**asking(callback="c"))
            decision = made.of(DecisionMade)[0].decision
            terms.append(next(c.terms for c in decision.candidates if c.deployment == "small"))
        free, bound = terms
        assert free.cascade > 0.0
        assert bound.cascade == pytest.approx(0.0, abs=1e-3)

    virtually(scene)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_sender_is_answered_if_the_first_call_was(seed: int) -> None:
    """Judges that fail, pass, are silent; second calls that fail, are late, say nothing; deadlines, hedges, retries:
    once a first answer is complete some answer arrives in time, and nothing stays in flight."""

    async def scene() -> None:
        rng, answered = Random(seed), 0
        judge = Judge(False)
        made = judged(house(replace(ASKED, max_wait_s=3.0), max_retries=2, hedge_after_s=1.0), judge)
        for i in range(60):
            judge.passed = rng.choice([True, False, None])
            judge.after_s = rng.choice([0.0, 0.5, 50.0])
            script = rng.choice(
                [saying("good"), never, failing(Unreachable("x"), after_s=0.3), saying("good", after_s=4)]
            )
            made.backend.scripts["large"] = script
            made.controller.retries.tokens = rng.choice([0.0, 20.0])
            deadline_s = rng.choice([None, 1.0, 3.0, 20.0])
            begun = asyncio.get_running_loop().time()
            result = await made.attempt(f"r{i}", deadline_s=deadline_s, **asking(callback="c"))
            lasted_s = asyncio.get_running_loop().time() - begun
            completed = [e for e in made.of(AttemptEnded) if e.outcome.ending is Ending.COMPLETED]
            assert isinstance(result, Reply) == bool(completed)
            answered += bool(completed)
            assert deadline_s is None or not completed or lasted_s <= deadline_s
            assert made.in_flight() == 0
            made.events.clear()
            await asyncio.sleep(30.0)
        assert answered > 50

    virtually(scene)
