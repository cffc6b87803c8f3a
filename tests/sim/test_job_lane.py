"""Who waits for batch jobs: those who have hours, at half the price, and back to the online lane in time if need be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from router.domain.aws.job import JobTerms
from router.domain.deployment import Deployment, Kind, Lane, Price
from router.domain.errors import Returned
from router.domain.events import AttemptEnded, DecisionMade, RequestEnded
from router.domain.outcome import PAID_BEFORE, Attempt, Delta
from router.domain.slo import Goal, Indicator, Objective, Objectives, RequestClass
from tests.regressions.house import WHOLE, House, deployment, failing, speaking, virtually

HOUR_S = 3600.0
TERMS = JobTerms("s3://b/p", "arn", collect_s=900.0, typical_s=HOUR_S)
NIGHTLY = RequestClass("nightly", goal=Goal.COST)
CHAT = RequestClass("chat", objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5)))


def of_one(name: str, **fields: Any) -> Deployment:
    """A deployment of the one model there is."""
    return replace(deployment(name, **fields), model="m")


def jobs(*classes: RequestClass, terms: JobTerms = TERMS) -> House:
    """One model on demand, and in batch jobs at half the price, of an hour each."""
    kind: dict[str, Any] = {"kind": Kind.JOB, "lane": Lane.BATCH, "price": Price(0.5, 0.5), "job": terms}
    house = House(*(classes or (NIGHTLY,)), deployments=(of_one("now", price=Price(1.0, 1.0)), of_one("jobs", **kind)))
    house.backend.scripts["now"] = speaking("n", first_s=0.05)
    house.backend.scripts["jobs"] = after(HOUR_S)
    return house


def after(seconds: float, delta: Delta = WHOLE) -> Any:
    async def script(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        await asyncio.sleep(seconds)
        yield delta

    return script


def picks(house: House) -> list[str]:
    return [e.decision.chosen for e in house.of(DecisionMade)]


def test_only_who_has_hours_waits_for_a_job() -> None:
    """With a deadline in six hours it does; in two, in ten seconds or without one it does not, and is told why."""

    async def scene() -> None:
        house = jobs()
        night = house.going("night", deadline_s=6 * HOUR_S)
        await asyncio.sleep(0.1)
        for name, deadline_s in (("soon", 2 * HOUR_S), ("now", 10.0), ("none", None)):
            await house.ask(name, deadline_s=deadline_s)
        assert picks(house) == ["jobs", "now", "now", "now"]
        codes = {e.deployment: e.code for e in house.of(DecisionMade)[-1].decision.excluded}
        assert codes == {"jobs": "job_too_slow"}
        reply = await night
        assert reply.receipt.deployment == "jobs"
        assert reply.receipt.cost_usd == pytest.approx(15 * 0.5e-6)

    virtually(scene)


def test_a_promise_of_seconds_keeps_out_of_jobs_however_late_the_deadline() -> None:
    """A chat with a day of deadline still has its first token in half a second."""

    async def scene() -> None:
        house = jobs(CHAT)
        await house.ask("chat", deadline_s=24 * HOUR_S)
        assert picks(house) == ["now"]

    virtually(scene)


def test_a_lane_of_jobs_is_never_the_last_resort_of_who_is_in_a_hurry() -> None:
    """Where nothing else has room a short request waits for room, not for a job."""

    async def scene() -> None:
        house = jobs(RequestClass("chat"))
        house.backend.scripts["now"] = speaking("n", first_s=5.0)
        house.member("now").limit.rebound(1.0, 1.0)
        replies = [house.going(f"r{i}", deadline_s=60.0) for i in range(4)]
        await house.beat(40.0)
        assert {(await reply).receipt.deployment for reply in replies} == {"now"}

    virtually(scene)


def test_what_jobs_take_is_learned_from_jobs() -> None:
    """Jobs take twenty minutes where an hour was expected: after a few of them a deadline of two hours does."""

    async def scene() -> None:
        house = jobs()
        house.backend.scripts["jobs"] = after(1200.0)
        assert (await house.ask("first", deadline_s=2 * HOUR_S)).receipt.deployment == "now"
        for day in range(8):
            together = [house.going(f"d{day}-{i}", deadline_s=9 * HOUR_S) for i in range(10)]
            assert {(await reply).receipt.deployment for reply in together} == {"jobs"}
            await asyncio.sleep(HOUR_S)
        wait = house.member("jobs").wait
        assert wait is not None
        assert 1200.0 < wait.typical_s < 2000.0
        assert (await house.ask("last", deadline_s=2 * HOUR_S)).receipt.deployment == "jobs"

    virtually(scene)


def test_a_hundred_that_are_given_back_at_once_are_all_answered_online() -> None:
    """A failed job costs no retries, opens no circuit, is paid by nobody, and class bounds on retries do not hold."""

    async def scene() -> None:
        house = jobs(RequestClass("nightly", goal=Goal.COST, max_retries=0))
        house.backend.scripts["jobs"] = failing(Returned("it failed", code="batch_failed"), after_s=HOUR_S)
        tokens = house.controller.retries.tokens
        together = [house.going(f"r{i}", deadline_s=9 * HOUR_S) for i in range(100)]
        replies = await asyncio.gather(*together)
        assert {reply.receipt.deployment for reply in replies} == {"now"}
        assert sum(reply.receipt.cost_usd for reply in replies) == pytest.approx(100 * 15e-6)
        assert house.controller.retries.tokens >= tokens
        assert house.member("jobs").circuit.blocked(now=asyncio.get_running_loop().time()) is None
        assert [e.status for e in house.of(RequestEnded)] == ["completed"] * 100

    virtually(scene)


def test_the_lane_is_told_when_a_request_is_due_and_when_it_must_leave() -> None:
    """The last moment for the online lane lies before the deadline, by about what an answer there takes."""
    seen: list[Attempt] = []

    async def noting(attempt: Attempt) -> AsyncGenerator[Delta, None]:
        seen.append(attempt)
        yield WHOLE

    async def scene() -> None:
        house = jobs()
        house.backend.scripts["jobs"] = noting
        await house.ask("r", deadline_s=6 * HOUR_S)
        (attempt,) = seen
        assert attempt.due is not None
        assert attempt.leave_at is not None
        assert attempt.due - attempt.started == pytest.approx(6 * HOUR_S)
        assert 0.1 < attempt.due - attempt.leave_at < 600.0

    virtually(scene)


def test_who_leaves_while_a_job_runs_has_paid_nothing_yet() -> None:
    """A sender who goes, or a router that stops, books no tokens: the answer will be, once, when it is there."""

    async def scene() -> None:
        house = jobs()
        night = house.going("night", deadline_s=6 * HOUR_S)
        await house.beat(10.0)
        assert house.dispatcher.held("http") == 1
        night.cancel()
        await asyncio.gather(night, return_exceptions=True)
        assert house.only(AttemptEnded).outcome.cost_usd == 0.0
        assert (house.dispatcher.held("http"), house.in_flight()) == (0, 0)

    virtually(scene)


def test_a_router_that_stops_does_not_wait_for_jobs() -> None:
    """What waits for a job is cut off after what else is under way has ended, long before the grace is over."""

    async def scene() -> None:
        house = jobs()
        night, short = house.going("night", deadline_s=6 * HOUR_S), house.going("short", deadline_s=10.0)
        await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        assert not await house.dispatcher.drain(20.0)
        assert asyncio.get_running_loop().time() - began < 2.0
        assert short.done()
        night.cancel()
        await asyncio.gather(night, return_exceptions=True)

    virtually(scene)


def test_an_answer_that_is_in_the_books_already_costs_nothing() -> None:
    """After a restart the same answer is handed out again: its tokens are told, and no dollars."""

    async def scene() -> None:
        house = jobs()
        house.backend.scripts["jobs"] = after(1.0, replace(WHOLE, served_as=PAID_BEFORE))
        reply = await house.ask("night", deadline_s=6 * HOUR_S)
        assert (reply.usage.output_tokens, reply.receipt.cost_usd) == (5, 0.0)

    virtually(scene)


def test_a_request_whose_job_is_under_way_goes_back_to_it_after_a_restart() -> None:
    """With an hour left nobody would put it into a job; but one has it, and is paid. Its wait teaches nothing."""

    async def scene() -> None:
        house = jobs()
        house.backend.scripts["jobs"] = after(60.0)
        house.dispatcher.homes.ask = lambda request: "jobs" if request.id == "night" else None
        wait = house.member("jobs").wait
        assert wait is not None
        before = wait.typical_s
        reply = await house.ask("night", deadline_s=HOUR_S)
        assert reply.receipt.deployment == "jobs"
        assert wait.typical_s == before
        assert (await house.ask("other", deadline_s=HOUR_S)).receipt.deployment == "now"

    virtually(scene)


def test_a_request_that_its_job_gives_back_after_a_restart_may_go_anywhere() -> None:
    """It is held to its job only for as long as the job has it; one whose deployment is gone is not held at all."""

    async def scene() -> None:
        house = jobs()
        house.backend.scripts["jobs"] = failing(Returned("late", code="batch_late"))
        house.dispatcher.homes.ask = lambda request: "jobs" if request.id == "night" else "gone"
        assert (await house.ask("night", deadline_s=HOUR_S)).receipt.deployment == "now"
        assert (await house.ask("other", deadline_s=HOUR_S)).receipt.deployment == "now"

    virtually(scene)


def test_who_may_go_nowhere_else_is_not_given_back_for_ever() -> None:
    """A request that asks for the job lane by name, where every job is refused, is tried as often as its class allows
    and then told."""

    async def scene() -> None:
        house = jobs(RequestClass("all", max_retries=2))
        house.backend.scripts["jobs"] = failing(Returned("it failed", code="batch_failed"))
        with pytest.raises(Returned, match="it failed"):
            await house.going("r", deadline_s=20 * HOUR_S, model="jobs")
        assert picks(house) == ["jobs"] * 3

    virtually(scene)
