"""How sure a model was of its words: asked of those who tell it, and told only to who wanted it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from router.domain.events import CascadeChecked
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.request import Capability
from router.domain.slo import Cascade, Check, RequestClass
from tests.regressions.house import Answer, House, Reader, deployment, virtually
from tests.unit.cascade_house import Judge, house, judged


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
