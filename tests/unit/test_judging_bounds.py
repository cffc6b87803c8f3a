"""Which answers are judged, by whom, and what that may cost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.core import snapshot
from router.domain.deployment import Tier
from router.domain.events import AnswerJudged, AttemptEnded, CacheUsed
from router.domain.request import Capability
from router.domain.slo import CacheTerms, RequestClass
from router.storage.decision_log import DecisionLog
from router.storage.paid_calls import recover_spending
from tests.regressions.house import House, deployment
from tests.unit.judged_house import ASKED, JUDGED, ask, house, rating, saying, told, verdicts, virtually


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
        assert (spent, reserved) == pytest.approx((40e-6, 0.0))

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
