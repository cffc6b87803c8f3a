"""Judges on the virtual clock: who is judged, what it may cost, and what is learned from it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec import json as codec
from msgspec.structs import replace

from router.core import snapshot
from router.domain.deployment import Capability, Price, Tier
from router.domain.errors import Unreachable
from router.domain.events import (
    AnswerJudged,
    AttemptEnded,
    CacheUsed,
    DecisionMade,
    FeedbackReceived,
    JudgeCompared,
    RequestEnded,
)
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import CacheTerms, Judge, RequestClass
from router.storage.decision_log import DecisionLog
from router.storage.paid_calls import recover_spending
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, Reader, deployment, failing, never, virtually

JUDGED = Judge("judge", share_ratio=1.0, usd_per_day=100.0, wait_s=0.0)
ASKED = json.dumps({"messages": [{"role": "user", "content": "Who wrote the first program?"}]}).encode()
PRICE = Price(1.0, 1.0)


def house(judge: Judge | None = JUDGED, *, judge_fields: dict[str, Any] | None = None, **fields: Any) -> House:
    """A class that two deployments serve, and a third that only judges."""
    fleet = (
        deployment("small", price=PRICE),
        deployment("large", Tier.LARGE, price=Price(1.0, 60.0)),
        deployment("judge", Tier.LARGE, price=PRICE, **(judge_fields or {})),
    )
    made = House(
        RequestClass("all", judge=judge, deployments=("model-small", "model-large"), **fields), deployments=fleet
    )
    made.backend.scripts = {"small": saying("Ada Lovelace."), "judge": rating(0.1)}
    return made


def saying(text: str, *, after_s: float = 0.1, finish: str = "stop", tokens: int = 10) -> Answer:
    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(after_s)
        yield Delta(whole_choices(text, finish), tokens, finish, Usage(10, tokens), whole=True)

    return script


def rating(quality: float, *, after_s: float = 0.1) -> Answer:
    return saying(json.dumps({"quality": quality}), after_s=after_s)


async def ask(made: House, name: str = "r", **fields: Any) -> Any:
    fields.setdefault("payload", ASKED)
    return await made.ask(name, **fields)


def verdicts(made: House) -> list[str]:
    return [event.verdict for event in made.of(AnswerJudged)]


def told(made: House) -> list[tuple[str, bool]]:
    return [(event.source, event.known) for event in made.of(FeedbackReceived)]


def seen(made: House) -> int:
    return made.controller.qualities.observations


@pytest.fixture(autouse=True)
def _no_failed_task(caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        yield
    assert caplog.records == []


def test_a_verdict_is_learned_from_as_feedback_is() -> None:
    """The judge is called once, after the sender has its answer; then the model that answered is believed less."""

    async def scene() -> None:
        made = house()
        before = made.controller.qualities.correct(0.5, "model-small", "chat")[0]
        reply = await ask(made)
        assert made.backend.calls == ["small"], "the sender waits for no judge"
        assert asyncio.get_running_loop().time() == pytest.approx(0.1)
        await made.beat(0.5)
        assert made.backend.calls == ["small", "judge"]
        judged = made.only(AnswerJudged)
        assert (judged.verdict, judged.quality, judged.propensity) == ("inadequate", 0.1, 1.0)
        assert (judged.judge, judged.model, judged.request_class) == ("judge", "model-small", "all")
        assert judged.cost_usd == pytest.approx(20e-6)
        event = made.only(FeedbackReceived)
        assert event.decision_id == judged.decision_id == reply.receipt.decision_id
        assert (event.source, event.known, event.quality, event.propensity) == ("judge", True, 0.1, 1.0)
        assert made.controller.qualities.correct(0.5, "model-small", "chat")[0] < before
        assert len(made.of(RequestEnded)) == len(made.of(DecisionMade)) == 1, "judging is no request and no decision"
        assert made.only(RequestEnded).cost_usd == reply.receipt.cost_usd == pytest.approx(20e-6)
        assert made.in_flight() == 0

    virtually(scene)


def test_the_call_is_cool_short_and_whole() -> None:
    """Temperature 0, few tokens, no stream; under an id that is no decision's."""

    async def scene() -> None:
        made, sent = house(), []

        async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            sent.append(attempt)
            async for delta in rating(1.0)(attempt):
                yield delta

        made.backend.scripts["judge"] = script
        await ask(made)
        await made.beat(0.5)
        (attempt,) = sent
        assert (attempt.temperature, attempt.max_tokens, attempt.stream) == (0.0, 256, False)
        assert attempt.decision_id != made.only(DecisionMade).decision.id
        body = json.loads(attempt.request.payload)
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert "Who wrote the first program?" in body["messages"][1]["content"]
        assert "Ada Lovelace." in body["messages"][1]["content"]

    virtually(scene)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_answers_are_drawn_as_often_as_is_recorded(share: float) -> None:
    """Monte Carlo: the share drawn is the propensity, within four standard deviations; a seed draws the same."""

    async def scene() -> None:
        found = []
        for _ in range(2):
            made = house(replace(JUDGED, share_ratio=share))
            ticket = made.controller.admit(made.request(), now=0.0)
            found.append([made.controller.judging.draws(ticket) for _ in range(20_000)])
        assert found[0] == found[1]
        spread = (share * (1.0 - share) / 20_000) ** 0.5
        assert sum(found[0]) / 20_000 == pytest.approx(share, abs=4.0 * spread)

    virtually(scene)


def test_a_judge_takes_no_draw_from_the_picker() -> None:
    """The picks of a class that explores are the same with a judge and without one."""

    async def scene() -> None:
        picks = []
        for judge in (None, JUDGED):
            made = house(judge, exploration_ratio=0.5)
            for number in range(30):
                await ask(made, str(number))
            picks.append([event.decision.chosen for event in made.of(DecisionMade)])
        assert picks[0] == picks[1]

    virtually(scene)


def test_what_the_sender_chose_is_not_judged() -> None:
    """Who asks for a deployment by name gets no verdict; a class that is forced does."""

    async def scene() -> None:
        made = house()
        await ask(made, model="small")
        await made.beat(0.5)
        assert verdicts(made) == []
        forced = house(forced="small")
        await ask(forced)
        await forced.beat(0.5)
        assert verdicts(forced) == ["inadequate"]

    virtually(scene)


def test_the_budget_of_the_day_is_kept_however_many_answers_come_at_once() -> None:
    """Spent and reserved together never pass the limit; what does not fit is told, and a new day judges again."""

    async def scene() -> None:
        limit = 0.0035
        made = house(replace(JUDGED, usd_per_day=limit))
        made.backend.scripts["judge"] = saying('{"quality": 1}', after_s=5.0, tokens=256)
        highest = 0.0
        tasks = [made.going(str(n), payload=ASKED) for n in range(40)]
        for _ in range(200):
            await made.beat(0.1)
            spent, reserved, bound = made.controller.spending.balances(at=0.0)["all (judge)"]
            assert bound == limit
            highest = max(highest, spent + reserved)
        await asyncio.gather(*tasks)
        assert 0.0 < highest <= limit
        assert "over_budget" in verdicts(made)
        assert sum(event.cost_usd for event in made.of(AnswerJudged)) <= limit
        judged = verdicts(made).count("adequate")
        for number in range(40):
            await ask(made, f"later-{number}")
            await made.beat(6.0, 1.0)
        spent = sum(event.cost_usd for event in made.of(AnswerJudged))
        assert verdicts(made).count("adequate") > judged
        assert limit - 2 * highest < spent <= limit
        await asyncio.sleep(86_400.0)
        made.dispatcher.tick()
        await ask(made, "tomorrow")
        await made.beat(6.0, 1.0)
        assert verdicts(made)[-1] == "adequate"

    virtually(scene)


def test_data_goes_only_where_the_class_lets_it() -> None:
    """A judge without the tags of `residency` is never asked."""

    async def scene() -> None:
        fleet = (deployment("small", tags=frozenset({"eu"})), deployment("judge"))
        made = House(RequestClass("all", judge=JUDGED, residency=("eu",)), deployments=fleet)
        made.backend.scripts = {"small": saying("Ada."), "judge": rating(1.0)}
        await ask(made)
        await made.beat(0.5)
        assert made.backend.calls == ["small"]
        assert verdicts(made) == ["wrong_residency"]
        assert told(made) == []

    virtually(scene)


def test_a_group_judges_where_there_is_room() -> None:
    """The least loaded of its deployments that may see the data."""

    async def scene() -> None:
        fleet = (
            deployment("small", tags=frozenset({"eu"})),
            replace(deployment("judge-0", Tier.LARGE), group="judge"),
            replace(deployment("judge-1", Tier.LARGE, tags=frozenset({"eu"})), group="judge"),
        )
        made = House(
            RequestClass("all", judge=JUDGED, residency=("eu",), deployments=("model-small",)), deployments=fleet
        )
        made.backend.scripts = {"small": saying("Ada."), "judge-1": rating(1.0)}
        await ask(made)
        await made.beat(0.5)
        assert made.backend.calls == ["small", "judge-1"]

    virtually(scene)


def test_a_judge_under_load_is_left_alone() -> None:
    """Past half of its limit nothing is judged there; nor while anybody waits for room."""

    async def scene() -> None:
        made = house(judge_fields={"max_in_flight": 4})
        made.backend.scripts["judge"] = rating(1.0, after_s=10.0)
        for number in range(5):
            await ask(made, str(number))
        await made.beat(0.2)
        assert verdicts(made) == ["busy"] * 3
        assert made.member("judge").account.in_flight == 2
        await made.beat(10.0)
        assert sorted(verdicts(made)) == ["adequate"] * 2 + ["busy"] * 3

    virtually(scene)


def test_requests_go_before_judging() -> None:
    """While one waits in the queue, a finished answer is not judged."""

    async def scene() -> None:
        fleet = (deployment("small", max_in_flight=1), deployment("judge"))
        made = House(RequestClass("all", judge=JUDGED, deployments=("model-small",)), deployments=fleet)
        made.backend.scripts = {"small": saying("Ada."), "judge": rating(1.0)}
        tasks = [made.going(str(n), payload=ASKED) for n in range(3)]
        await made.beat(1.0)
        await asyncio.gather(*tasks)
        assert "busy" in verdicts(made)
        assert verdicts(made)[-1] == "adequate"

    virtually(scene)


def test_an_answer_that_is_given_again_is_not_judged_again() -> None:
    """The one that made it was judged; a hit of the cache is not."""

    async def scene() -> None:
        made = house(cache=CacheTerms(60.0, always=True))
        for number in range(3):
            await ask(made, str(number))
            await made.beat(0.5)
        assert [event.result for event in made.of(CacheUsed)] == ["miss", "hit", "hit"]
        assert verdicts(made) == ["inadequate"]

    virtually(scene)


def test_the_senders_word_goes_before_the_verdict() -> None:
    """A sender who speaks while the verdict waits is learned from alone; how far both are apart is told."""

    async def scene() -> None:
        made = house(replace(JUDGED, wait_s=60.0))
        reply = await ask(made)
        await made.beat(1.0)
        assert verdicts(made) == ["inadequate"]
        assert told(made) == []
        assert made.dispatcher.feedback(reply.receipt.decision_id, 1.0)
        await made.beat(120.0, 1.0)
        assert told(made) == [("sender", True)]
        assert seen(made) == 1
        compared = made.only(JudgeCompared)
        assert (compared.judged, compared.told, compared.compared) == (0.1, 1.0, 1)
        assert compared.mean_difference == pytest.approx(-0.9)
        assert compared.agreed_ratio == 0.0
        assert not made.dispatcher.feedback(reply.receipt.decision_id, 1.0)

    virtually(scene)


def test_a_sender_who_speaks_before_the_judge_is_learned_from_alone() -> None:
    """Also where the judge is still being asked."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["judge"] = rating(0.9, after_s=5.0)
        reply = await ask(made)
        await made.beat(1.0)
        assert made.dispatcher.feedback(reply.receipt.decision_id, 0.8)
        await made.beat(6.0)
        assert told(made) == [("sender", True)]
        assert seen(made) == 1
        assert made.only(JudgeCompared).agreed_ratio == 1.0

    virtually(scene)


@pytest.mark.parametrize(("quality", "learned"), [(0.2, 1), (1.0, 2)])
def test_a_sender_who_comes_after_the_judge_counts_only_if_it_says_otherwise(quality: float, learned: int) -> None:
    """One answer is one observation; a sender that contradicts the judge outweighs what the judge taught."""

    async def scene() -> None:
        made = house()
        before = made.controller.qualities.correct(0.5, "model-small", "chat")[0]
        reply = await ask(made)
        await made.beat(1.0)
        assert made.dispatcher.feedback(reply.receipt.decision_id, quality), "it is known, and not refused"
        await made.beat(1.0)
        assert seen(made) == learned
        assert told(made) == [("judge", True), ("sender", True)]
        assert made.only(JudgeCompared).agreed_ratio == float(quality < 0.5)
        after = made.controller.qualities.correct(0.5, "model-small", "chat")[0]
        assert (after < before - 0.01) == (quality < 0.5)
        assert not made.dispatcher.feedback(reply.receipt.decision_id, quality), "the third teaches nothing"
        assert seen(made) == learned

    virtually(scene)


def test_what_is_known_of_a_judge_outlives_the_process() -> None:
    """Agreement and the books of the day are in the checkpoint."""

    async def scene() -> None:
        made, next_life = house(), house()
        reply = await ask(made)
        await made.beat(1.0)
        made.dispatcher.feedback(reply.receipt.decision_id, 0.2)
        saved = snapshot.take(made.controller, at=1.0)
        assert codec.decode(saved)["judges"] == {"judge": [1.0, pytest.approx(-0.1), 1.0]}
        snapshot.restore(next_life.controller, saved)
        assert next_life.controller.judging.docket.state() == made.controller.judging.docket.state()
        spent, _, limit = next_life.controller.spending.balances(at=1.0)["all (judge)"]
        assert (spent, limit) == (pytest.approx(20e-6), 100.0)

    virtually(scene)


def test_a_crash_gives_a_judge_no_budget_back(tmp_path: Path) -> None:
    """What was judged after the checkpoint is read from the decision log."""

    async def scene() -> None:
        made, log = house(), DecisionLog(tmp_path)
        await ask(made, "before")
        await made.beat(1.0)
        at = asyncio.get_running_loop().time()
        saved = snapshot.take(made.controller, at=at)
        await ask(made, "after")
        await made.beat(1.0)
        handlers = log.handlers()
        for event in made.events:
            if type(event) in handlers:
                handlers[type(event)](event)
        log.close()
        fresh = house()
        snapshot.restore(fresh.controller, saved)
        recover_spending(fresh.controller.spending, tmp_path, at, at=at + 1.0)
        spent, reserved, _ = fresh.controller.spending.balances(at=at)["all (judge)"]
        assert (spent, reserved) == (pytest.approx(40e-6), 0.0)

    virtually(scene)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (saying("It is a fine answer."), "unreadable"),
        (saying('Their answer says {"quality": 1}', finish="length"), "unreadable"),
        (saying('{"quality": 7}'), "unreadable"),
        (failing(Unreachable("gone")), "failed"),
        (never, "failed"),
        (saying('{"quality": 0.5}'), "adequate"),
    ],
)
def test_every_end_of_a_judging_call_is_told(script: Answer, verdict: str) -> None:
    """Only a verdict that can be read teaches; nothing is tried again."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["judge"] = script
        await ask(made)
        await made.beat(70.0, 1.0)
        assert verdicts(made) == [verdict]
        assert made.backend.calls == ["small", "judge"]
        assert told(made) == ([("judge", True)] if verdict == "adequate" else [])
        assert made.in_flight() == made.backend.open_now == made.controller.judging.under_way == 0

    virtually(scene)


def test_a_judge_that_fails_loses_its_circuit_like_any_deployment() -> None:
    """After failures it is left alone."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["judge"] = failing(Unreachable("gone"))
        for number in range(20):
            await ask(made, str(number))
            await made.beat(0.2)
        assert "unavailable" in verdicts(made)
        assert made.backend.calls.count("judge") < 20

    virtually(scene)


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ("", {}),
        ("Ada.", {"payload": b""}),
        ("Ada.", {"needs": frozenset({Capability.IMAGES})}),
        ("Ada.", {"needs": frozenset({Capability.CHOICES})}),
    ],
)
def test_what_is_not_text_is_not_judged(answer: str, fields: dict[str, Any]) -> None:
    """No words, pictures, several answers."""

    async def scene() -> None:
        made = house()
        made.backend.scripts["small"] = saying(answer)
        await ask(made, **fields)
        await made.beat(0.5)
        assert verdicts(made) == ["not_text"]
        assert "judge" not in made.backend.calls

    virtually(scene)


def test_a_prompt_that_does_not_fit_the_judge_is_not_judged() -> None:
    """The judge's window holds less than the question and the answer."""

    async def scene() -> None:
        made = house(judge_fields={"context_tokens": 100})
        await ask(made)
        await made.beat(0.5)
        assert verdicts(made) == ["too_long"]

    virtually(scene)


def test_a_judge_that_is_not_there_judges_nothing() -> None:
    """As in a fleet that takes the place of the policy's."""

    async def scene() -> None:
        made = house(replace(JUDGED, deployment="nobody"))
        await ask(made)
        await made.beat(0.5)
        assert verdicts(made) == ["unavailable"]

    virtually(scene)


def test_a_stream_is_judged_by_all_of_its_pieces() -> None:
    """The sender reads what it would without a judge; the judge reads the whole."""

    async def scene() -> None:
        made, asked = house(), []

        async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
            asked.append(json.loads(attempt.request.payload)["messages"][1]["content"])
            async for delta in rating(1.0)(attempt):
                yield delta

        made.backend.scripts = {"judge": script}
        reader = Reader()
        await ask(made, stream=True, responder=reader)
        assert len(reader.pieces) == 3
        await made.beat(0.5)
        assert "\nw0 w1 w2 \n" in asked[0]
        assert verdicts(made) == ["adequate"]

    virtually(scene)


def test_a_request_that_fails_is_not_judged() -> None:
    """There is no answer."""

    async def scene() -> None:
        made = house(max_retries=0)
        made.backend.scripts["small"] = made.backend.scripts["large"] = failing(Unreachable("gone"))
        await made.attempt(payload=ASKED)
        await made.beat(0.5)
        assert verdicts(made) == []

    virtually(scene)


def test_the_router_stops_within_a_moment_with_judging_under_way() -> None:
    """Calls that end in time count, others are cut off; a verdict that waited counts at once; nothing is left."""

    async def scene() -> None:
        made = house(replace(JUDGED, wait_s=3600.0))
        await ask(made, "judged")
        await made.beat(1.0)
        made.backend.scripts["judge"] = rating(1.0, after_s=1.0)
        await ask(made, "soon")
        await made.beat(0.1)
        made.backend.scripts["judge"] = never
        await ask(made, "never")
        began = asyncio.get_running_loop().time()
        assert await made.dispatcher.drain(20.0)
        assert asyncio.get_running_loop().time() - began < 2.5
        assert sorted(verdicts(made)) == ["adequate", "inadequate", "stopped"]
        assert told(made) == [("judge", True)] * 2
        assert made.in_flight() == made.backend.open_now == made.controller.judging.under_way == 0
        _, reserved, _ = made.controller.spending.balances(at=made.request().at)["all (judge)"]
        assert reserved == 0.0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtually(scene)


def test_a_class_without_a_judge_pays_nothing() -> None:
    """No call, no event, no account."""

    async def scene() -> None:
        made = house(None)
        await ask(made)
        await made.beat(0.5)
        assert made.of(AnswerJudged) == []
        assert [event.outcome.attempt.deployment.name for event in made.of(AttemptEnded)] == ["small"]
        assert made.controller.spending.balances(at=0.0) == {}

    virtually(scene)
