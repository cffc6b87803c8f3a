"""Requests that wait for room: in what order they go, and which of them go unanswered."""

from __future__ import annotations

import asyncio

import pytest

from router.domain.errors import (
    Rejected,
    RouterError,
)
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Bounds
from tests.regressions.house import House, deployment, never, virtually


def one_at_a_time() -> House:
    return House(
        RequestClass("urgent", priority=5),
        RequestClass("all"),
        RequestClass("spare", sheddable=True, objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5))),
        deployments=(deployment("only", max_in_flight=1),),
        bounds=Bounds(queue_requests=2),
    )


def test_waits_for_room_and_goes_by_priority() -> None:
    """With room for one, the urgent one overtakes in the queue; waiting is not overhead."""

    async def scene() -> None:
        house, order = one_at_a_time(), []

        async def ask(name: str, request_class: str) -> None:
            reply = await house.ask(name, request_class=request_class)
            order.append((name, round(reply.receipt.queue_s, 1), round(reply.receipt.overhead_s, 3)))

        await asyncio.gather(ask("first", "all"), ask("second", "all"), ask("urgent", "urgent"))
        assert order == [("first", 0.0, 0.0), ("urgent", 0.3, 0.0), ("second", 0.6, 0.0)]

    virtually(scene)


def test_a_full_queue_pushes_out_what_may_be_shed() -> None:
    """The least urgent sheddable waiter gives way; without one the newcomer is refused."""

    async def scene() -> None:
        house = one_at_a_time()
        classes = ["all", "all", "spare", "urgent", "all"]
        asked = [house.ask(f"r{i}", request_class=c) for i, c in enumerate(classes)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        codes = [r.code if isinstance(r, RouterError) else "ok" for r in results]
        assert codes == ["ok", "ok", "evicted", "ok", "queue_full"]

    virtually(scene)


def test_a_sheddable_request_is_answered_at_once_when_its_objective_is_gone() -> None:
    """It is not kept waiting for an answer that would be useless."""

    async def scene() -> None:
        house = one_at_a_time()
        house.backend.scripts = {"only": never}
        first = asyncio.ensure_future(house.ask("first", request_class="all"))
        await asyncio.sleep(0.0)
        spare = asyncio.ensure_future(house.ask("spare", request_class="spare"))
        for _ in range(8):
            await asyncio.sleep(0.1)
            house.dispatcher.tick()
        with pytest.raises(Rejected) as refused:
            await spare
        assert refused.value.code in {"slo_unreachable", "overloaded"}
        first.cancel()

    virtually(scene)


def test_a_cancelled_waiter_leaves_no_trace() -> None:
    """Going away while queued frees the place, and the next in line is served."""

    async def scene() -> None:
        house = one_at_a_time()
        first = asyncio.ensure_future(house.ask("first"))
        second = asyncio.ensure_future(house.ask("second"))
        third = asyncio.ensure_future(house.ask("third"))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.gather(first, third)
        assert len(house.dispatcher.queue) == 0
        assert house.in_flight() == 0

    virtually(scene)
