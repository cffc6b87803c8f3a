"""What a call costs: nothing where none was made, its prompt where it was cut, and never twice."""

from __future__ import annotations

import asyncio

import pytest

from router.domain.errors import Expired, ProtocolError, RouterError, Unreachable
from router.domain.events import AttemptEnded, Event, RequestEnded
from router.domain.slo import RequestClass
from tests.regressions.house import House, cancel, deployment, failing, never, speaking, virtually

_PROMPT_USD = 10e-6


def test_a_call_withdrawn_before_it_was_sent_costs_nothing() -> None:
    """Neither the first, nor a second after one that never reached its backend."""

    async def scene() -> None:
        for last in (1, 2):
            house, notes = House(), list[int]()
            house.backend.scripts = {"large": failing(Unreachable("gone"))}

            async def note(house: House = house, notes: list[int] = notes, last: int = last) -> None:
                notes.append(1)
                if len(notes) == last:
                    raise RouterError("disk full")

            with pytest.raises(RouterError, match="disk full"):
                await house.ask(on_call=note)
            assert len(house.backend.calls) == last - 1
            assert house.only(RequestEnded).cost_usd == 0.0

    virtually(scene)


def test_a_silent_call_costs_its_prompt_whoever_cuts_it() -> None:
    """Cut by the deadline, or by a sender that leaves: the backend has read the prompt all the same."""

    async def scene() -> None:
        house = House(deployments=(deployment("only"),))
        house.backend.scripts = {"only": never}
        with pytest.raises(Expired):
            await house.ask(deadline_s=5.0)
        task = house.going()
        await asyncio.sleep(5.0)
        await cancel(task)
        assert [e.cost_usd for e in house.of(RequestEnded)] == [pytest.approx(_PROMPT_USD)] * 2

    virtually(scene)


def test_a_call_that_its_backend_failed_costs_what_was_heard_of_it() -> None:
    """Nothing before the first token, prompt and tokens after it."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=0), deployments=(deployment("only"),))
        for tokens in (0, 2):
            house.backend.scripts = {"only": failing(ProtocolError("cut"), tokens=tokens)}
            await house.attempt()
        assert [e.cost_usd for e in house.of(RequestEnded)] == [0.0, pytest.approx(12e-6)]

    virtually(scene)


def test_a_hedged_request_pays_both_calls_and_a_retried_one_what_was_used() -> None:
    """The sum of its attempts is the cost of the request, on the receipt and in the event."""

    async def scene() -> None:
        house = House(RequestClass("all", hedge_after_s=0.5))
        house.backend.scripts = {"large": never, "small": speaking("x", first_s=0.1)}
        receipt = (await house.ask()).receipt
        parts = [e.outcome.cost_usd for e in house.of(AttemptEnded)]
        assert sorted(parts) == pytest.approx([_PROMPT_USD, 15e-6])
        assert house.only(RequestEnded).cost_usd == pytest.approx(sum(parts))
        assert receipt.cost_usd == pytest.approx(sum(parts))

    virtually(scene)


def test_a_waiter_that_leaves_with_its_permit_costs_nothing() -> None:
    """Granted and cancelled at the same instant: the permit goes to the next, and nobody pays for it."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", max_in_flight=1),))
        first = house.going("first")
        await asyncio.sleep(0.0)
        second, third = house.going("second"), house.going("third")

        def leave(event: Event) -> None:
            house.events.append(event)
            if type(event) is RequestEnded and event.request.id == "first":
                second.cancel()

        house.emit = leave  # type: ignore[method-assign]
        await asyncio.wait({third}, timeout=30.0)
        assert (first.done(), second.cancelled(), third.done()) == (True, True, True)
        assert (len(house.backend.calls), house.in_flight()) == (2, 0)
        costs = {e.request.id: e.cost_usd for e in house.of(RequestEnded)}
        assert costs == {"first": pytest.approx(13e-6), "second": 0.0, "third": pytest.approx(13e-6)}

    virtually(scene)
