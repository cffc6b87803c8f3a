"""A class that shapes its requests, from the front of the dispatcher to the call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from router.domain.events import DecisionMade, RequestEnded, RequestReceived, RequestShaped
from router.domain.outcome import Attempt, Delta
from router.domain.request import Request
from router.domain.rollout import Arm, Rollout, RolloutMode
from router.domain.slo import CacheTerms, Match, Parameters, RequestClass, Style
from router.wire.openai import Envelope, read_request
from router.wire.openai.shape import INSTRUCTION
from tests.regressions.house import House, deployment, virtually, well

OLD: list[dict[str, Any]] = [
    {"role": "user", "content": "x" * 360},
    {"role": "assistant", "content": "y" * 36},
]
LAST = {"role": "user", "content": "now"}


class Kept(House):
    """A house that keeps what is sent on."""

    def __init__(self, *classes: RequestClass) -> None:
        super().__init__(*classes, deployments=(deployment("only"),))
        self.sent: list[Request] = []
        self.backend.scripts = {"only": self._answer}

    async def _answer(self, attempt: Attempt) -> AsyncGenerator[Delta, None]:
        self.sent.append(attempt.request)
        async for delta in well(attempt):
            yield delta

    def messages(self, call: int = 0) -> list[dict[str, Any]]:
        """The conversation of one call."""
        said: list[dict[str, Any]] = json.loads(self.sent[call].payload)["messages"]
        return said


def chat(*messages: dict[str, Any], name: str = "r") -> Request:
    now = asyncio.get_running_loop().time()
    body = json.dumps({"messages": messages}).encode()
    return read_request(body, Envelope(id=name, arrived=now, at=now, source="test"))


def test_what_is_sent_on_is_short_and_what_was_received_is_whole() -> None:
    """The call and its decision see the shaped request, whoever keeps what came sees the original, and it is told."""

    async def scene() -> None:
        house = Kept(RequestClass("all", style=Style.CONCISE, input_budget_tokens=100))
        original = chat(*OLD, LAST)
        await house.dispatcher.submit(original)
        assert house.messages() == [{"role": "system", "content": INSTRUCTION}, LAST]
        assert house.only(RequestReceived).request is original
        assert house.only(DecisionMade).decision.input_tokens == house.sent[0].input_tokens <= 100
        style, budget = house.of(RequestShaped)
        assert style == RequestShaped("all", "style", 0)
        assert (budget.what, budget.tokens_saved > 100) == ("input_budget", True)

    virtually(scene)


def test_a_class_that_does_not_shape_sends_what_came() -> None:
    """The very same bytes, and nothing is told."""

    async def scene() -> None:
        house = Kept(RequestClass("all"))
        original = chat(*OLD, LAST)
        await house.dispatcher.submit(original)
        assert house.sent == [original]
        assert house.of(RequestShaped) == []

    virtually(scene)


def test_a_request_is_classified_by_what_came() -> None:
    """A long prompt falls in the class for long ones, also where that class makes it short."""

    async def scene() -> None:
        long = RequestClass("long", match=Match(min_input_tokens=100), input_budget_tokens=50)
        house = Kept(long, RequestClass("rest"))
        await house.dispatcher.submit(chat(*OLD, LAST))
        await house.dispatcher.submit(chat(LAST))
        assert [e.request_class for e in house.of(RequestEnded)] == ["long", "rest"]
        assert house.messages(0) == house.messages(1) == [LAST]

    virtually(scene)


def test_an_arm_shapes_its_own_requests() -> None:
    """In an experiment over brevity only one side is told to be brief."""

    async def scene() -> None:
        arms = (Arm("plain", 0.5), Arm("brief", 0.5, style="concise"))
        house = Kept(RequestClass("all", rollout=Rollout(RolloutMode.AB, arms=arms)))
        for number in range(12):
            await house.dispatcher.submit(chat(LAST, name=f"r{number}"))
        told = [len(house.messages(call)) == 2 for call in range(12)]
        assert told == [e.arm == "brief" for e in house.of(RequestEnded)]
        assert len(set(told)) == 2

    virtually(scene)


def test_requests_that_are_the_same_once_they_are_shaped_share_an_answer() -> None:
    """The cache looks at what is sent on, not at what was cut."""

    async def scene() -> None:
        terms, fixed = CacheTerms(60.0), Parameters(temperature=0.0)
        house = Kept(RequestClass("all", input_budget_tokens=50, cache=terms, parameters=fixed))
        await house.dispatcher.submit(chat(*OLD, LAST))
        reply = await house.dispatcher.submit(chat(LAST))
        assert reply.receipt.cache == "hit"

    virtually(scene)
