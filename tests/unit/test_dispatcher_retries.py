"""What is done for a request whose call fails, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from router.domain.errors import (
    ProtocolError,
    Refused,
    Throttled,
    Unreachable,
)
from router.domain.events import HealthChanged, RequestEnded
from router.domain.outcome import Attempt, Delta, Usage
from router.domain.slo import RequestClass
from router.wire.openai import delta_choices
from tests.regressions.house import House, Reader, failing, never, virtually


def test_a_failed_call_falls_back_to_another_deployment() -> None:
    """The one that failed is not asked again; the cost is of both, the attempts are two."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Unreachable("gone"))}
        reply = await house.ask(deadline_s=60.0)
        assert house.backend.calls == ["large", "small"]
        assert reply.receipt.attempts == 2
        assert house.in_flight() == 0

    virtually(scene)


def test_nothing_is_retried_after_a_token_has_left() -> None:
    """A stream that breaks in the middle fails; no other model takes over silently."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(ProtocolError("cut"), tokens=1)}
        with pytest.raises(ProtocolError):
            await house.ask(responder=Reader(), stream=True)
        assert house.backend.calls == ["large"]
        assert house.of(RequestEnded)[0].code == "protocol_error"

    virtually(scene)


def test_a_broken_answer_nobody_has_seen_is_made_again() -> None:
    """Where the sender waits for the whole, a call that breaks in the middle is retried elsewhere from the start."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(ProtocolError("cut"), tokens=1)}
        reply = await house.ask()
        assert house.backend.calls == ["large", "small"]
        assert b'"w0 w1 w2 "' in reply.choices
        assert reply.receipt.ttft_s == pytest.approx(0.1)

    virtually(scene)


def test_a_refused_request_is_not_retried() -> None:
    """Wrong is wrong everywhere."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Refused("bad tool"))}
        with pytest.raises(Refused):
            await house.ask()
        assert len(house.backend.calls) == 1

    virtually(scene)


def test_retries_stop_at_the_classs_limit() -> None:
    """Two retries mean three calls, with a pause once every deployment has failed."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=2))
        down = failing(Unreachable("gone"))
        house.backend.scripts = {"large": down, "small": down}
        with pytest.raises(Unreachable):
            await house.ask()
        assert len(house.backend.calls) == 3
        assert asyncio.get_running_loop().time() > 0.0

    virtually(scene)


def test_repeated_failures_open_the_circuit_and_traffic_moves_away() -> None:
    """After three failures the deployment is left alone until its cool-down is over, then probed."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Unreachable("gone"))}
        for i in range(6):
            await house.ask(f"r{i}")
        assert house.backend.calls.count("large") == 3
        assert [(e.old, e.new) for e in house.of(HealthChanged)] == [("ok", "open")]
        house.backend.scripts = {}
        await asyncio.sleep(2.0)
        await house.ask("probe")
        assert house.backend.calls[-1] == "large"
        assert house.of(HealthChanged)[-1].new == "ok"

    virtually(scene)


def test_throttled_deployment_rests_for_as_long_as_it_said() -> None:
    """Retry-After is a promise: nothing goes there before."""

    async def scene() -> None:
        house = House()
        house.backend.scripts = {"large": failing(Throttled("slow down", retry_after_s=5.0))}
        await house.ask("a")
        house.backend.scripts = {}
        await asyncio.sleep(4.0)
        await house.ask("b")
        await asyncio.sleep(2.0)
        await house.ask("c")
        assert house.backend.calls == ["large", "small", "small", "large"]

    virtually(scene)


def test_a_silent_call_is_hedged_and_the_loser_is_cancelled() -> None:
    """After the class's patience a second deployment is asked; the first to speak answers, the other is freed."""

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5))
        house.backend.scripts = {"large": never}
        reply = await house.ask()
        assert house.backend.calls == ["large", "small"]
        assert (reply.receipt.deployment, reply.receipt.attempts) == ("small", 2)
        assert asyncio.get_running_loop().time() == pytest.approx(0.8)
        assert (house.in_flight(), house.backend.open_now) == (0, 0)
        quick = await house.ask("quick", model="small")
        assert quick.receipt.attempts == 1

    virtually(scene)


def test_a_hedged_request_fails_only_when_both_have_failed() -> None:
    """A rival that fails leaves the first its chance."""

    async def late(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(2.0)
        yield Delta(delta_choices("late", finish_reason="stop"), 1, "stop", Usage(10, 1))

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5))
        house.backend.scripts = {"large": late, "small": failing(Unreachable("gone"))}
        reply = await house.ask()
        assert reply.receipt.deployment == "large"
        assert house.in_flight() == 0

    virtually(scene)
