"""A batch endpoint that misbehaves hurts its batch and nobody longer, and stays within what the operator allows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from router.domain.deployment import BatchProfile
from router.domain.errors import BackendError, Overloaded
from router.domain.events import RequestEnded
from router.domain.outcome import Attempt, Delta
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from tests.regressions.house import WHOLE, House, RunBatch, batching, cancel, code_of, virtually

_E2E = Objectives(e2e=Objective(Indicator.E2E, 0.25))
_TTFT = Objectives(ttft=Objective(Indicator.TTFT, 0.25))
_ONCE = RequestClass("all", max_retries=0)


async def raising(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.05)
    raise RuntimeError("boom")


async def cancelling(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.05)
    raise asyncio.CancelledError


async def overloaded(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.05)
    raise Overloaded("busy")


async def one_short(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.05)
    return (WHOLE,) * (len(attempts) - 1)


async def one_over(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(0.05)
    return (WHOLE,) * (len(attempts) + 1)


@pytest.mark.parametrize("run", [raising, cancelling, overloaded, one_short, one_over])
def test_a_broken_batch_answers_everyone_who_waits_for_it(run: RunBatch) -> None:
    """Each gets a BackendError at once, and nobody an answer that may be another's; no permit is left, and the next
    batch is served."""

    async def scene() -> None:
        house = batching(run, _ONCE)
        tasks = [house.going(f"r{i}") for i in range(5)]
        await asyncio.wait(tasks, timeout=1.0)
        errors = [t.exception() for t in tasks if t.done()]
        assert len(errors) == 5
        assert all(isinstance(e, BackendError) for e in errors)
        assert (house.in_flight(), len(house.of(RequestEnded))) == (0, 5)
        house.backend.batch = instant
        await asyncio.sleep(5.0)
        assert isinstance((await house.ask("next")).choices, bytes)

    virtually(scene)


async def instant(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    return (WHOLE,) * len(attempts)


def test_a_batch_that_takes_no_time_is_answered() -> None:
    """A clock that did not move breaks nothing: all are answered, again and again."""

    async def scene() -> None:
        house = batching(instant, _ONCE)
        for _ in range(20):
            replies = await asyncio.gather(*(house.ask(f"r{i}") for i in range(5)))
            assert all(r.usage.output_tokens == 5 for r in replies)
        assert house.in_flight() == 0

    virtually(scene)


@pytest.mark.parametrize("promise", [_E2E, _TTFT])
def test_a_batch_endpoint_that_is_said_to_take_no_time_is_asked_all_the_same(promise: Objectives) -> None:
    """A profile of zeros is a prior like any other."""

    async def scene() -> None:
        house = batching(instant, RequestClass("all", objectives=promise), batch=BatchProfile(0.0, 0.0))
        assert isinstance((await house.ask()).choices, bytes)

    virtually(scene)


def stalling(stall_s: float) -> Callable[[tuple[Attempt, ...]], Awaitable[tuple[Delta, ...]]]:
    """An endpoint that could serve 450 a second, and hangs for a while in its third batch."""
    batches = []

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        batches.append(len(attempts))
        await asyncio.sleep(stall_s if len(batches) == 3 else 0.03 + 0.002 * len(attempts))
        return (WHOLE,) * len(attempts)

    return run


async def offered(house: House, per_s: int, seconds: int) -> list[int]:
    """Ask at a steady rate; how many were answered in each second."""
    answered, tasks = [], []
    for second in range(seconds):
        before = sum(e.status == "completed" for e in house.of(RequestEnded))
        for i in range(per_s):
            tasks.append(house.going(f"{second}.{i}"))
            await house.beat(1.0 / per_s, 1.0 / per_s)
        answered.append(sum(e.status == "completed" for e in house.of(RequestEnded)) - before)
    await cancel(*tasks)
    return answered


@pytest.mark.parametrize("sheddable", [False, True])
def test_a_batch_endpoint_recovers_from_a_stall(sheddable: bool) -> None:
    """Three seconds of standstill at a quarter of its capacity are made up for, and it is in time again."""

    async def scene() -> None:
        terms = RequestClass("all", objectives=_E2E, sheddable=sheddable, batch_wait_s=0.0)
        house = batching(stalling(3.0), terms)
        answered = await offered(house, 50, 16)
        assert min(answered[8:]) >= 48
        assert house.in_flight() < 10
        assert all(e.slo_met for e in house.of(RequestEnded) if e.at > 8.0 and e.status == "completed")

    virtually(scene)


def test_a_batch_that_nobody_waits_for_any_more_makes_way() -> None:
    """An endpoint that hangs for ever is given up with the last request of its batch, and the next batch is run."""

    async def scene() -> None:
        async def hang(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
            await asyncio.sleep(0.1 if attempts[0].request.id == "opens" else 1e6)
            return (WHOLE,) * len(attempts)

        house = batching(hang, RequestClass("all", max_retries=0, batch_wait_s=0.0))
        house.going("opens")
        await asyncio.sleep(0.0)
        tasks = [house.going("brief", deadline_s=2.0), house.going("patient", deadline_s=3.0)]
        await house.beat(1.0)
        house.backend.batch = instant
        tasks.append(house.going("later", deadline_s=6.0))
        await house.beat(1.5)
        assert [code_of(t) for t in tasks] == ["deadline_exceeded", "waiting", "waiting"]
        await house.beat(1.0)
        assert [code_of(t) for t in tasks] == ["deadline_exceeded", "deadline_exceeded", "ok"]
        assert house.in_flight() == 0

    virtually(scene)


def test_a_batch_given_up_has_been_slow() -> None:
    """What is learned of it is that it takes at least so long; one given up early teaches nothing."""

    async def scene() -> None:
        house = batching(stalling(0.0), RequestClass("all"))
        tuner = house.member("b").batch
        assert tuner is not None
        before = tuner.expected_s(1)
        await house.attempt(deadline_s=0.01)
        assert tuner.expected_s(1) == before
        house.backend.batch = slowly
        await house.attempt(deadline_s=1.0)
        assert tuner.expected_s(1) > 2.0 * before

    virtually(scene)


async def slowly(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
    await asyncio.sleep(100.0)
    return (WHOLE,) * len(attempts)


@pytest.mark.parametrize("most", [4, 200])
def test_a_batch_endpoint_keeps_to_its_limit_in_flight(most: int) -> None:
    """No more than `max_in_flight` are sent, whatever the batch would hold; the rest wait and are served."""

    async def scene() -> None:
        sizes = []

        async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
            sizes.append(len(attempts))
            await asyncio.sleep(0.1)
            return (WHOLE,) * len(attempts)

        house = batching(run, max_in_flight=most)
        tasks = [house.going(f"r{i}") for i in range(50)]
        await asyncio.sleep(0.05)
        assert house.in_flight() == min(most, 50)
        await asyncio.gather(*tasks)
        assert max(sizes) <= most
        assert sum(sizes) == 50

    virtually(scene)
