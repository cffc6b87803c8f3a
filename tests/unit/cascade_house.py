"""A small model that answers badly and a large one that answers well, for the tests of answers that are checked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from router.domain.deployment import Price, Tier
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Cascade, Check, RequestClass
from router.ports.verify import Question
from router.wire.openai import whole_choices
from tests.regressions.house import Answer, House, deployment

CHECKED = Cascade((Check.REGEX,), threshold=0.3)
ASKED = Cascade((Check.CALLBACK,), threshold=0.35)


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
    """What the sender wants verified: an answer that begins with `good`, unless something else is said."""
    return {"verify": json.dumps(verify or {"regex": "^good"}).encode()}


def sure_of_fails(made: House, variance: float = 0.01) -> None:
    """Feedback has shown that what fails the pattern is wrong."""
    state = made.controller.checks.state()
    state |= {
        "model-small\tregex\tfail": [-5.0, variance, 375.0, 0.5],
        "model-small\tregex\tpass": [1.15, variance, 625.0, 0.5],
    }
    made.controller.checks.restore(state)


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
    """The house, in which whom requests name is this judge."""
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
