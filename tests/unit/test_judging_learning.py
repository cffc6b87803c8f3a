"""What a judge says is learned from, as what senders say is, and theirs goes before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from msgspec import json as codec
from msgspec.structs import replace

from router.core import snapshot
from router.domain.events import AnswerJudged, DecisionMade, FeedbackReceived, JudgeCompared, RequestEnded
from router.domain.outcome import Attempt, Delta
from tests.unit.judged_house import JUDGED, ask, house, rating, seen, told, verdicts, virtually


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
        assert (spent, limit) == pytest.approx((20e-6, 100.0))

    virtually(scene)
