"""What a second call may never cost: the first answer, the deadline, the budget, a promise to whoever is asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from router.cli.decision_view import explanation
from router.domain.deployment import Price, Tier
from router.domain.errors import RequestError, Unreachable
from router.domain.events import AttemptEnded, CacheUsed, CascadeChecked, DecisionMade, RequestEnded
from router.domain.outcome import Attempt, Delta, Ending, Reply, Usage
from router.domain.request import Capability
from router.domain.slo import (
    Budget,
    CacheTerms,
    Cascade,
    Check,
    Indicator,
    Objective,
    Objectives,
    Parameters,
    RequestClass,
    WhenSpent,
)
from router.ports.verify import Question
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import log_files, read_decisions
from router.telemetry.sink import Sink
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, Reader, cancel, deployment, failing, failing_once, never, virtually

CHECKED = Cascade((Check.REGEX,), threshold=0.3)
ASKED = Cascade((Check.CALLBACK,), threshold=0.35)
AUTO = Cascade((Check.CALLBACK,))


def saying(text: str, *, tokens: int = 200, after_s: float = 0.5) -> Answer:
    """A whole answer after a while."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(after_s)
        yield Delta(whole_choices(text, "stop"), tokens, "stop", Usage(10, tokens), whole=True)

    return script


def house(cascade: Cascade | None = CHECKED, *, dear: float = 60.0, **fields: Any) -> House:
    """A small model that says `bad`, and a large one, whose tokens cost so much a million, that says `good`."""
    fleet = (
        deployment("small", price=Price(1.0, 1.0)),
        deployment("large", Tier.LARGE, price=Price(1.0, dear)),
    )
    made = House(RequestClass("all", cascade=cascade, **fields), deployments=fleet)
    made.backend.scripts = {"small": saying("bad"), "large": saying("good")}
    return made


def asking(**verify: str) -> dict[str, Any]:
    return {"verify": json.dumps(verify or {"regex": "^good"}).encode()}


class Judge:
    """Whom requests name: says `passed` after a while, and remembers what it was asked."""

    def __init__(self, passed: bool | None, *, after_s: float = 0.1) -> None:
        self.passed, self.after_s = passed, after_s
        self.asked: list[Question] = []
        self.left = 0

    def refusal(self, topic: str) -> str | None:
        return "it is closed" if topic == "closed" else None

    async def verdict(self, question: Question, *, within_s: float) -> bool | None:
        self.asked.append(question)
        try:
            await asyncio.sleep(min(self.after_s, within_s))
        except asyncio.CancelledError:
            self.left += 1
            raise
        return self.passed if self.after_s <= within_s else None


def judged(made: House, judge: Judge) -> House:
    made.dispatcher.cascade.verifier = judge
    return made


def sure_of_verdicts(made: House) -> None:
    """Feedback has shown that whom the judge fails is wrong."""
    state = made.controller.checks.state()
    state |= {
        "model-small\tcallback\tfail": [-5.0, 0.01, 375.0, 0.5],
        "model-small\tcallback\tpass": [1.15, 0.01, 625.0, 0.5],
    }
    made.controller.checks.restore(state)


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


def test_an_answer_that_was_kept_is_given_unchecked_and_a_doubtful_one_is_not_kept() -> None:
    """The second answer is kept for the next who asks the same and the same check, who costs no call and no check.
    An answer that failed and was sent for want of a better one is made anew."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    terms: dict[str, Any] = {"parameters": Parameters(temperature=0.0), "cache": CacheTerms(60.0)}

    async def scene() -> None:
        made = house(**terms)
        for _ in range(2):
            reply = await made.ask(payload=body, **asking())
            assert b"good" in reply.choices
        assert made.backend.calls == ["small", "large"]
        assert len(made.of(CascadeChecked)) == 1
        assert [e.result for e in made.of(CacheUsed)] == ["miss", "hit"]
        doubtful = house(**terms)
        doubtful.backend.scripts["large"] = failing(Unreachable("gone"))
        for _ in range(2):
            await doubtful.ask(payload=body, **asking())
        assert doubtful.backend.calls == ["small", "large"] * 2
        assert [e.result for e in doubtful.of(CacheUsed)] == ["miss", "miss"]

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


def sure_of_fails(made: House) -> None:
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
            sure_of_fails(made)
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
        sure_of_fails(made)
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


def logprobs_of(choices: bytes) -> Any:
    return json.loads(choices)[0].get("logprobs")


def telling(logprob: float) -> Answer:
    """An answer with the probabilities of its tokens, where they are asked for."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(0.5)
        choice: dict[str, Any] = {"index": 0, "message": {"content": "word"}, "finish_reason": "stop"}
        if attempt.logprobs or Capability.LOGPROBS in attempt.request.needs:
            choice["logprobs"] = {"content": [{"token": "word", "logprob": logprob}]}
        yield Delta(json.dumps([choice]).encode(), 200, "stop", Usage(10, 200), whole=True)

    return script


@pytest.mark.parametrize("asks", [False, True])
def test_how_sure_a_model_was_is_looked_at_and_told_only_to_who_asked(asks: bool) -> None:
    """The class's check asks the backend for it; the sender sees it where it asked itself."""

    async def scene() -> None:
        made = house(Cascade((Check.LOGPROB,), threshold=0.1))
        made.backend.scripts["small"] = telling(-0.5)
        reply = await made.ask(needs=frozenset({Capability.LOGPROBS} if asks else ()))
        assert made.only(CascadeChecked).grades == (("logprob", "low"),)
        assert (logprobs_of(reply.choices) is not None) is asks
        plain = house(Cascade((Check.REFUSAL,)))
        plain.backend.scripts["small"] = telling(-0.5)
        assert logprobs_of((await plain.ask()).choices) is None, "and nobody asks for it where nothing looks"

    virtually(scene)


def test_probabilities_are_asked_of_those_who_give_them() -> None:
    """A deployment that lists its abilities without them is not asked, and its answer not graded by them."""

    async def scene() -> None:
        asked: list[bool] = []

        async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            asked.append(attempt.logprobs)
            async for delta in telling(-0.5)(attempt):
                yield delta

        mute = deployment("small", capabilities=frozenset(Capability) - {Capability.LOGPROBS})
        made = House(RequestClass("all", cascade=Cascade((Check.LOGPROB,))), deployments=(mute,))
        made.backend.scripts["small"] = script
        await made.ask()
        assert asked == [False]
        assert made.of(CascadeChecked) == []

    virtually(scene)


def test_a_held_stream_is_given_without_the_probabilities_that_only_the_check_wanted() -> None:
    """Whatever of it leaves, held back or let go."""

    async def streamed(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        for i in range(5):
            await asyncio.sleep(0.1)
            last = {"finish_reason": "stop"} if i == 4 else {}
            logprobs = {"content": [{"token": "w", "logprob": -0.01}]} if attempt.logprobs else None
            choices = json.dumps([{"index": 0, "delta": {"content": "w "}, "logprobs": logprobs, **last}]).encode()
            yield Delta(choices, 40, "stop" if i == 4 else None, Usage(10, 200) if i == 4 else None)

    async def scene() -> None:
        made = judged(house(Cascade((Check.LOGPROB,), stream=True), dear=30.0), Judge(True))
        state = {
            "model-small\tlogprob\tfail": [-5.0, 0.01, 375.0, 0.5],
            "model-small\tlogprob\thigh": [1.15, 0.01, 625.0, 0.5],
        }
        made.controller.checks.restore(state)
        made.backend.scripts = {"small": streamed, "large": streamed}
        reader = Reader()
        await made.ask(stream=True, responder=reader)
        assert made.only(CascadeChecked).grades == (("logprob", "high"),)
        assert len(reader.pieces) == 5
        assert all(logprobs_of(piece) is None for piece in reader.pieces)

    virtually(scene)


def test_the_decision_log_says_what_the_checks_said(tmp_path: Path) -> None:
    """Each check with its grade, P(adequate) before and after, and what was done, with what probability; in the log and
    in words."""

    async def scene() -> None:
        log = DecisionLog(tmp_path)
        sink = Sink([log])
        made = judged(
            house(replace(ASKED, checks=(Check.REFUSAL, Check.CALLBACK)), exploration_ratio=0.1), Judge(False)
        )
        for i in range(8):
            await made.ask(f"r{i}", **asking(callback="c"))
        for event in made.events:
            sink.emit(event)
        sink.drain_all()
        log.close()
        told = {e.decision_id: e for e in made.of(CascadeChecked)}
        for logged in read_decisions(log_files(tmp_path)):
            event = told.pop(logged.decision.id, None)
            if event is None:
                assert logged.check is None
                continue
            assert logged.check is not None
            assert logged.check.grades == (("refusal", "pass"), ("callback", "fail"))
            assert logged.check.escalated == event.escalated
            assert logged.check.propensity == event.propensity < 1.0
            console = Console(record=True, width=200, file=StringIO())
            console.print(explanation(logged))
            said = console.export_text()
            assert "refusal pass, callback fail" in said
            assert ("made again" in said) == event.escalated
            assert (logged.outcome is None) == event.escalated
        assert told == {}

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
