"""Streams and the cascade: what is held back until it is checked, and what that costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.decision import Terms
from router.domain.events import CascadeChecked, DecisionMade, RequestEnded
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import Cascade, Indicator, Objective, Objectives
from tests.regressions.house import House, Reader, virtually
from tests.unit.cascade_house import CHECKED, asking, house, sure_of_fails

AUTO = replace(CHECKED, threshold=None)


async def streamed(attempt: Attempt) -> AsyncGenerator[Delta, None]:
    """Five pieces, 0.1 s apart."""
    word = "good" if attempt.deployment.name == "large" else "bad"
    for i in range(5):
        await asyncio.sleep(0.1)
        last = {"finish_reason": "stop"} if i == 4 else {}
        choices = json.dumps([{"index": 0, "delta": {"content": f"{word} "}, **last}]).encode()
        yield Delta(choices, 40, "stop" if i == 4 else None, Usage(10, 200) if i == 4 else None)


def streaming(cascade: Cascade, **fields: Any) -> House:
    made = house(cascade, **fields)
    made.backend.scripts = {"small": streamed, "large": streamed}
    return made


def test_a_stream_is_not_held_back_without_the_policys_word() -> None:
    """Its pieces go out as they come, unchecked."""

    async def scene() -> None:
        made, reader = streaming(CHECKED), Reader()
        reply = await made.ask(stream=True, responder=reader, **asking())
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 5
        assert made.of(CascadeChecked) == []
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.1)
        assert reply.receipt.deployment == "small"

    virtually(scene)


def test_a_stream_that_may_be_held_is_made_again_before_any_of_it_has_left() -> None:
    """The reader sees only the second answer, as it comes."""

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        await made.ask(stream=True, responder=reader, **asking())
        assert made.backend.calls == ["small", "large"]
        assert reader.begun == ["large"]
        assert "bad" not in reader.text()
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.6)

    virtually(scene)


def test_a_held_stream_that_passes_goes_out_whole_and_its_first_token_counts_then() -> None:
    """What the reader waited for is what is measured."""

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        await made.ask(stream=True, responder=reader, **asking(regex="^bad"))
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 5
        assert made.only(CascadeChecked).passed
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.5)

    virtually(scene)


def test_a_stream_held_too_long_is_let_go_unchecked() -> None:
    """Past the bound of the class what is held goes out, and the rest as it comes."""

    async def slow(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        for i in range(40):
            await asyncio.sleep(0.5)
            last = i == 39
            choices = json.dumps([{"index": 0, "delta": {"content": "bad "}}]).encode()
            yield Delta(choices, 1, "stop" if last else None, Usage(10, 40) if last else None)

    async def scene() -> None:
        made, reader = streaming(replace(CHECKED, stream=True)), Reader()
        sure_of_fails(made)
        made.backend.scripts["small"] = slow
        await made.ask(stream=True, responder=reader, **asking())
        assert made.of(CascadeChecked) == []
        assert reader.begun == ["small"]
        assert len(reader.pieces) == 40
        assert made.only(RequestEnded).ttft_s == pytest.approx(11.0, abs=0.6)

    virtually(scene)


def test_a_stream_is_not_held_where_its_first_token_is_promised_sooner() -> None:
    """Held back, it would break its promise: the decision says so before the call."""

    async def scene() -> None:
        soon = Objectives(ttft=Objective(Indicator.TTFT, 0.3))
        made, reader = streaming(replace(CHECKED, stream=True), objectives=soon), Reader()
        await made.ask(stream=True, responder=reader, **asking())
        assert made.of(CascadeChecked) == []
        assert made.only(RequestEnded).ttft_s == pytest.approx(0.1)

    virtually(scene)


def test_holding_a_stream_costs_what_it_had_of_an_early_first_token() -> None:
    """The same option is worth less where the reader would wait for it, and the decision counts that."""

    async def option(stream: bool, **promised: Any) -> Terms:
        made = streaming(replace(AUTO, stream=True), **promised)
        sure_of_fails(made)
        await made.ask(stream=stream, responder=Reader() if stream else None, **asking())
        decision = made.of(DecisionMade)[0].decision
        terms: Terms = next(c.terms for c in decision.candidates if c.deployment == "small")
        return terms

    async def scene() -> None:
        free = await option(stream=True)
        promised = Objectives(ttft=Objective(Indicator.TTFT, 6.0 * free.e2e_s))
        held = await option(stream=True, objectives=promised)
        whole = await option(stream=False, objectives=promised)
        assert 0.0 < held.cascade < whole.cascade

    virtually(scene)
