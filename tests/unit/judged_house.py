"""A house whose answers a third deployment judges, for the tests of judging; none of its tasks may fail unseen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from router.domain.deployment import Price, Tier
from router.domain.events import AnswerJudged, FeedbackReceived
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Judge, RequestClass
from router.sim.clock import run_virtual
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, deployment

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
    """A whole answer after a while."""

    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(after_s)
        yield Delta(whole_choices(text, finish), tokens, finish, Usage(10, tokens), whole=True)

    return script


def rating(quality: float, *, after_s: float = 0.1) -> Answer:
    """A verdict after a while."""
    return saying(json.dumps({"quality": quality}), after_s=after_s)


async def ask(made: House, name: str = "r", **fields: Any) -> Any:
    """The question, answered."""
    fields.setdefault("payload", ASKED)
    return await made.ask(name, **fields)


def verdicts(made: House) -> list[str]:
    """What was said of each answer, in order."""
    return [event.verdict for event in made.of(AnswerJudged)]


def told(made: House) -> list[tuple[str, bool]]:
    """Who gave feedback, and whether it was of use."""
    return [(event.source, event.known) for event in made.of(FeedbackReceived)]


def seen(made: House) -> int:
    """How many observations the models' qualities rest on."""
    return made.controller.qualities.observations


def virtually(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Play a scene on a fresh virtual clock; what a task of it raises and nobody looks at fails the test."""
    unseen: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        await scene()

    run_virtual(watched())
    assert unseen == []
