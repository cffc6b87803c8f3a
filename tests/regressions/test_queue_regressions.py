"""Who waits, for whom, and what becomes of it: nobody waits for a deployment that another could do without."""

from __future__ import annotations

import asyncio

import pytest

from router.domain.deployment import Kind, Price, Tier, TokenQuota
from router.domain.errors import RouterError, Unreachable
from router.domain.events import RequestEnded, RequestRejected
from router.domain.slo import Budget, Indicator, Objective, Objectives, PastDeadline, RequestClass
from router.policy.policy import Bounds
from tests.regressions.house import House, cancel, code_of, deployment, failing, never, speaking, virtually

_GOLD, _ALL = RequestClass("gold", deployments=("large",)), RequestClass("all", deployments=("small",))
_ONE_LARGE = (deployment("small"), deployment("large", Tier.LARGE, max_in_flight=1))


@pytest.mark.parametrize("queue_requests", [40, 34])
def test_a_crowd_at_a_busy_deployment_keeps_nobody_from_an_idle_one(queue_requests: int) -> None:
    """34 who wait for the large model do not delay one for the small, also where the queue is full of them."""

    async def scene() -> None:
        house = House(_GOLD, _ALL, deployments=_ONE_LARGE, bounds=Bounds(queue_requests=queue_requests))
        house.backend.scripts = {"large": never}
        crowd = [house.going(f"g{i}", request_class="gold") for i in range(35)]
        await asyncio.sleep(0.0)
        assert len(house.dispatcher.queue) == 34
        reply = await house.ask("x", request_class="all")
        assert (reply.receipt.deployment, reply.receipt.queue_s) == ("small", 0.0)
        await cancel(*crowd)

    virtually(scene)


def test_a_crowd_does_not_keep_a_waiter_from_the_deployment_that_gets_free() -> None:
    """One who has to wait for the small model gets it when it is free, though 34 came before it for the large."""

    async def scene() -> None:
        both_one = (deployment("small", max_in_flight=1), deployment("large", Tier.LARGE, max_in_flight=1))
        house = House(_GOLD, _ALL, deployments=both_one)
        house.backend.scripts = {"large": never}
        crowd = [house.going(f"g{i}", request_class="gold") for i in range(35)]
        first = house.going("first", request_class="all")
        await asyncio.sleep(0.0)
        second = await house.ask("second", request_class="all")
        assert second.receipt.queue_s == pytest.approx(0.3)
        await cancel(*crowd, first)

    virtually(scene)


def test_who_cannot_pay_for_an_idle_deployment_keeps_nobody_from_it() -> None:
    """A crowd whose bound on cost leaves it the busy deployment only waits by itself."""

    async def scene() -> None:
        house = House(
            RequestClass("thrifty", budget=Budget(usd_per_request=1e-3)),
            RequestClass("all"),
            deployments=(deployment("cheap", max_in_flight=1), deployment("dear", Tier.LARGE, price=Price(10.0, 10.0))),
        )
        house.backend.scripts = {"cheap": never}
        crowd = [house.going(f"g{i}", request_class="thrifty") for i in range(35)]
        await asyncio.sleep(0.0)
        assert len(house.dispatcher.queue) == 34
        task = house.going("x", request_class="all")
        await house.beat(1.0)
        assert code_of(task) == "ok"
        await cancel(*crowd, task)

    virtually(scene)


def test_who_has_failed_at_an_idle_deployment_keeps_nobody_from_it() -> None:
    """A crowd that the small model has failed waits for the large one; a newcomer is served by the small."""

    async def scene() -> None:
        house = House(deployments=_ONE_LARGE, bounds=Bounds(queue_wait_s=600.0))
        house.backend.scripts = {"large": never}
        filling = house.going("filling", model="large")
        await asyncio.sleep(0.0)
        house.backend.scripts["small"] = failing(Unreachable("blip"), after_s=0.1)
        crowd = [house.going(f"g{i}") for i in range(20)]
        await asyncio.sleep(0.2)
        assert len(house.dispatcher.queue) == 20
        house.backend.scripts["small"] = speaking("x", first_s=0.1)
        await house.beat(2.0)
        task = house.going("x")
        await house.beat(1.0)
        assert code_of(task) == "ok"
        await cancel(*crowd, filling, task)

    virtually(scene)


def test_the_most_urgent_of_all_crowds_goes_first() -> None:
    """Who may go anywhere and who may only go there meet at the deployment that gets free, by priority."""

    async def scene() -> None:
        house = House(
            RequestClass("gold", deployments=("only",)),
            RequestClass("urgent", priority=5),
            deployments=(deployment("only", max_in_flight=1), deployment("down", Tier.LARGE, max_in_flight=1)),
        )
        house.backend.scripts = {"down": never}
        order: list[str] = []

        async def ask(name: str, request_class: str) -> None:
            await house.ask(name, request_class=request_class)
            order.append(name)

        filling = house.going("filling", model="down")
        await asyncio.sleep(0.0)
        await asyncio.gather(*(ask(n, c) for n, c in (("a", "gold"), ("b", "gold"), ("c", "urgent"), ("d", "gold"))))
        assert order == ["a", "c", "b", "d"]
        await cancel(filling)

    virtually(scene)


def test_a_small_request_passes_a_large_one_that_waits_for_tokens() -> None:
    """Behind a prompt that the bucket cannot hold yet there is room for one that it can."""

    async def scene() -> None:
        house = House(deployments=(deployment("p", kind=Kind.PROVISIONED, quota=TokenQuota(1000, 100_000)),))
        await house.ask("first", input_tokens=900)
        big = house.going("big", input_tokens=1000)
        await asyncio.sleep(0.0)
        small = house.going("small", input_tokens=50)
        await house.beat(1.0)
        assert (code_of(big), code_of(small)) == ("waiting", "ok")
        await cancel(big)

    virtually(scene)


def test_a_newcomer_does_not_take_what_another_waits_for() -> None:
    """Tokens that have come back since the last heartbeat go to who has waited for them."""

    async def scene() -> None:
        house = House(deployments=(deployment("p", kind=Kind.PROVISIONED, quota=TokenQuota(600, 100_000)),))
        await house.ask("first", input_tokens=600)
        waits = house.going("waits", input_tokens=50)
        await asyncio.sleep(6.0)
        newcomer = house.going("newcomer", input_tokens=60)
        await asyncio.sleep(0.0)
        await house.beat(1.0)
        assert (code_of(waits), code_of(newcomer)) == ("ok", "waiting")
        await cancel(newcomer)

    virtually(scene)


@pytest.mark.parametrize(("wait_s", "code"), [(2.0, "queue_timeout"), (0.0, "evicted")])
def test_who_leaves_the_queue_unserved_is_told_to_have_been_in_it(wait_s: float, code: str) -> None:
    """Stage `queue`, whether it waited too long or was pushed out the moment it came."""

    async def scene() -> None:
        house = House(
            RequestClass("urgent", priority=5),
            RequestClass("spare", sheddable=True),
            deployments=(deployment("only", max_in_flight=1),),
            bounds=Bounds(queue_requests=1, queue_wait_s=2.0),
        )
        house.backend.scripts = {"only": never}
        filling = house.going("filling", request_class="urgent")
        await asyncio.sleep(0.0)
        spare = house.going("spare", request_class="spare")
        await house.beat(wait_s * 1.1)
        urgent = house.going("urgent", request_class="urgent")
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.0)
        assert code_of(spare) == code
        rejected = house.only(RequestRejected)
        assert (rejected.request.id, rejected.code, rejected.stage) == ("spare", code, "queue")
        await cancel(filling, urgent)

    virtually(scene)


def test_a_waiter_whose_decision_breaks_hurts_nobody_else() -> None:
    """Not the request whose end pumped the queue, nor the next in line; it gets its own error."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", max_in_flight=1),))
        decide = house.controller.decide

        def breaking(ticket, *, now):  # type: ignore[no-untyped-def]
            if ticket.request.id == "odd" and now > 0.0:
                raise TypeError("a bug for this one")
            return decide(ticket, now=now)

        house.controller.decide = breaking  # type: ignore[method-assign]
        tasks = [house.going(name) for name in ("first", "odd", "next")]
        await asyncio.wait(tasks, timeout=30.0)
        assert [code_of(t) for t in tasks] == ["ok", "TypeError", "ok"]
        told = house.of(RequestEnded) + house.of(RequestRejected)
        assert sorted(e.request.id for e in told) == ["first", "next", "odd"]
        assert (house.in_flight(), len(house.dispatcher.queue)) == (0, 0)

    virtually(scene)


@pytest.mark.parametrize("past", PastDeadline)
def test_who_may_be_answered_late_is_also_when_it_waited(past: PastDeadline) -> None:
    """`past_deadline: answer_late` holds in the queue too; `fail` does not wait past the deadline."""

    async def scene() -> None:
        house = House(
            RequestClass("all", deadline_s=1.0, past_deadline=past), deployments=(deployment("only", max_in_flight=1),)
        )
        house.backend.scripts = {"only": speaking("x", first_s=0.9)}
        tasks = [house.going(f"r{i}") for i in range(3)]
        await house.beat(5.0)
        late = "ok" if past is PastDeadline.ANSWER_LATE else "deadline_exceeded"
        assert [code_of(t) for t in tasks] == ["ok", late, late]

    virtually(scene)


@pytest.mark.parametrize("most", [1, 2, 10])
def test_an_empty_queue_has_room_however_short_it_may_be(most: int) -> None:
    """An ingress reads on while nobody waits, and stops when the queue is filled."""

    async def scene() -> None:
        house = House(deployments=(deployment("only", max_in_flight=1),), bounds=Bounds(queue_requests=most))
        house.backend.scripts = {"only": never}
        assert house.dispatcher.has_room()
        tasks = [house.going(f"r{i}") for i in range(most + 1)]
        await asyncio.sleep(0.0)
        assert not house.dispatcher.has_room()
        await cancel(*tasks)

    virtually(scene)


def test_a_sheddable_class_is_told_at_once_that_it_is_too_late() -> None:
    """What waits past its objective is not kept for an answer that would be useless, in whichever crowd it waits."""

    async def scene() -> None:
        promise = Objectives(ttft=Objective(Indicator.TTFT, 0.5))
        house = House(
            RequestClass("spare", deployments=("large",), sheddable=True, objectives=promise),
            RequestClass("all"),
            deployments=_ONE_LARGE,
        )
        house.backend.scripts = {"large": never}
        filling = house.going("filling", request_class="all", model="large")
        await asyncio.sleep(0.0)
        spare = house.going("spare", request_class="spare")
        await house.beat(0.7)
        assert code_of(spare) in {"slo_unreachable", "overloaded"}
        await cancel(filling)

    virtually(scene)


def test_an_error_of_the_router_in_line_is_answered() -> None:
    """A waiter that nobody can serve any more after a failure of its own gets that failure."""

    async def scene() -> None:
        house = House(RequestClass("all", max_retries=1), deployments=(deployment("only", max_in_flight=1),))
        house.backend.scripts = {"only": failing(Unreachable("gone"), after_s=0.1)}
        tasks = [house.going(f"r{i}") for i in range(2)]
        await house.beat(10.0)
        assert all(isinstance(t.exception(), RouterError) for t in tasks)
        assert {code_of(t) for t in tasks} == {"unreachable"}

    virtually(scene)
