"""The same model at several prices: what has time goes to the cheap slow lane, and climbs as its slack shrinks."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.control.capacity import LaneChanged
from router.domain.deployment import BatchProfile, Deployment, Kind, Lane, Price, TokenQuota
from router.domain.events import DecisionMade, RequestEnded
from router.domain.slo import Goal, Indicator, Match, Objective, Objectives, PastDeadline, RequestClass
from tests.regressions.house import WHOLE, House, deployment, speaking, virtually

FULL = Price(1.0, 1.0)
HALF = Price(0.5, 0.5)
JOB = RequestClass("job", goal=Goal.COST, patience_s=20.0)
CHAT = RequestClass("chat", objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5)))


def of_one(name: str, **fields: Any) -> Deployment:
    """A deployment of the one model there is."""
    return replace(deployment(name, **fields), model="m")


def lanes(*classes: RequestClass) -> House:
    """One model on demand, and at half the price in a flex lane that waits some seconds."""
    fields: dict[str, Any] = {"price": HALF, "lane": Lane.FLEX}
    house = House(*classes, deployments=(of_one("now", price=FULL), of_one("flex", **fields)))
    house.backend.scripts["now"] = speaking("n", first_s=0.05)
    rng = Random(1)

    async def flex(attempt: Any) -> Any:
        async for delta in speaking("f", first_s=rng.lognormvariate(1.6, 0.5))(attempt):
            yield delta

    house.backend.scripts["flex"] = flex
    return house


def picks(house: House) -> list[str]:
    return [e.decision.chosen for e in house.of(DecisionMade)]


def test_slack_decides_the_lane() -> None:
    """A deadline of five minutes goes to flex; one of three seconds, and a promise of the first token in half a second,
    do not: the wait of the lane, about five seconds, has been learned."""

    async def scene() -> None:
        house = lanes(RequestClass("job", goal=Goal.COST))
        warm = [house.going(f"w{i}", deadline_s=300.0) for i in range(60)]
        await house.beat(60.0)
        assert set(picks(house)) == {"flex"}
        wait = house.member("flex").wait
        assert wait is not None
        assert wait.typical_s == pytest.approx(5.0, rel=0.35)
        await house.ask("short", deadline_s=3.0)
        assert picks(house)[-1] == "now"
        await asyncio.gather(*warm)

    virtually(scene)


def test_a_promise_keeps_out_of_a_lane_that_waits_and_is_not_hurt_by_it() -> None:
    """Chats never go to flex, however cheap, and jobs may go on going there: a slow lane is not scarce."""

    async def scene() -> None:
        house = lanes(CHAT)
        await house.traffic(20.0, 5.0)
        assert set(picks(house)) == {"now"}
        assert house.member("flex").price.integral == 0.0

    virtually(scene)


def test_a_lane_that_stops_answering_is_noticed_by_its_silence() -> None:
    """Calls that hang in the flex lane make its wait longer by what they have waited: the next job goes elsewhere,
    without an error having come back."""

    async def scene() -> None:
        house = lanes(RequestClass("job", goal=Goal.COST))
        house.backend.scripts["flex"] = speaking("f", first_s=1e6)
        hung = [house.going(f"h{i}", deadline_s=600.0) for i in range(5)]
        await house.beat(120.0)
        await house.ask("next", deadline_s=60.0)
        assert picks(house)[-1] == "now"
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)

    virtually(scene)


def reserve(*classes: RequestClass) -> House:
    """One model on demand, and in reserved capacity of ten small calls a minute."""
    kind: dict[str, Any] = {"price": Price(0.0, 0.0, 6.0), "kind": Kind.PROVISIONED, "lane": Lane.PROVISIONED}
    quota = TokenQuota(1000.0, 1e9)
    house = House(*classes, deployments=(of_one("now", price=FULL), of_one("paid", quota=quota, **kind)))
    for name in ("now", "paid"):
        house.backend.scripts[name] = speaking("x", first_s=0.05)
    return house


async def drain(house: House) -> None:
    """Use up what is reserved."""
    member = house.member("paid")
    assert member.quota is not None
    member.quota.reserve(1000.0, 0.0, now=asyncio.get_running_loop().time())


def test_who_has_time_is_kept_for_what_is_paid_anyway() -> None:
    """The bucket is empty and fills within the patience: the job waits for it and costs nothing, a chat does not wait.
    Where it went and how long it was kept is told."""

    async def scene() -> None:
        house = reserve(JOB)
        await drain(house)
        job = house.going("job", deadline_s=600.0, input_tokens=100)
        await house.beat(1.0)
        assert picks(house) == []
        await house.ask("other", input_tokens=100)
        assert picks(house) == ["now"], "without a deadline nobody is kept"
        await house.beat(30.0)
        assert (await job).receipt.deployment == "paid"
        await house.beat(0.2)
        (told,) = house.of(LaneChanged)
        assert (told.old, told.new, told.reason) == ("provisioned", "provisioned", "room")
        assert 0.0 < told.waited_s <= JOB.patience_s

    virtually(scene)


def test_who_is_kept_climbs_while_the_dearer_lane_can_still_make_it() -> None:
    """With fifteen seconds of slack it goes on demand in time, long before its patience is over."""

    async def scene() -> None:
        house = reserve(JOB)
        await drain(house)
        job = house.going("job", deadline_s=15.0, input_tokens=900)
        await house.beat(16.0)
        assert (await job).receipt.deployment == "now"
        (told,) = house.of(LaneChanged)
        assert (told.old, told.new, told.reason) == ("provisioned", "default", "slack")
        assert told.waited_s > 1.0
        assert told.slack_s > 2.0
        assert house.only(RequestEnded).status == "completed"

    virtually(scene)


def test_patience_has_an_end() -> None:
    """A bucket that others keep empty is waited for as long as the class allows, and no longer."""

    async def scene() -> None:
        house = reserve(JOB)
        await drain(house)
        job = house.going("job", deadline_s=3600.0, input_tokens=900)
        for _ in range(30):
            await house.beat(1.0)
            await drain(house)
        reply = await job
        assert reply.receipt.deployment == "now"
        assert 19.0 < reply.receipt.queue_s < 21.5

    virtually(scene)


def test_who_is_kept_is_in_nobodys_way() -> None:
    """While a job is kept another class is served at once by the same deployments."""

    async def scene() -> None:
        house = reserve(RequestClass("chat", match=Match(tenants=("chat",))), JOB)
        await drain(house)
        job = house.going("job", deadline_s=600.0, input_tokens=100)
        await asyncio.sleep(0.01)
        reply = await house.ask("chat", tenant="chat", input_tokens=100)
        assert reply.receipt.queue_s == 0.0
        await house.beat(30.0)
        await job

    virtually(scene)


def test_a_call_climbs_out_of_a_batch_lane_that_would_be_late_and_pays_nothing_there() -> None:
    """The endpoint is busy for ten seconds and the deadline is in eight: what waits for the next batch is called on
    demand in time, also where its class may not be shed; only calls that were answered are paid."""

    async def scene() -> None:
        async def slow(attempts: Any) -> Any:
            await asyncio.sleep(10.0)
            return tuple(WHOLE for _ in attempts)

        kind: dict[str, Any] = {"kind": Kind.BATCH, "lane": Lane.BATCH, "price": HALF, "max_items": 1}
        batch = of_one("jobs", batch=BatchProfile(3.0, 0.0), **kind)
        terms = RequestClass("job", goal=Goal.COST, deadline_s=8.0, past_deadline=PastDeadline.ANSWER_LATE)
        house = House(terms, deployments=(of_one("now", price=FULL), batch))
        house.backend.scripts["now"] = speaking("n", first_s=0.05)
        house.backend.batch = slow
        first, second = house.going("first"), house.going("second")
        await house.beat(30.0)
        assert (await first).receipt.deployment == "jobs"
        reply = await second
        assert (reply.receipt.deployment, reply.receipt.attempts) == ("now", 2)
        ended = {e.request.id: e for e in house.of(RequestEnded)}
        assert ended["second"].e2e_s < 8.0
        assert reply.receipt.cost_usd == pytest.approx(FULL.cost_usd(10, 5))
        (told,) = house.of(LaneChanged)
        assert (told.old, told.new, told.reason) == ("batch", "default", "slack")

    virtually(scene)
