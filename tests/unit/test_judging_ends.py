"""How a judging call ends: every end is told, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from router.domain.errors import Unreachable
from router.domain.outcome import Attempt, Delta
from tests.regressions.house import Answer, Reader, failing, never
from tests.unit.judged_house import ASKED, JUDGED, ask, house, rating, saying, told, verdicts, virtually


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
