"""Batches put together by the dispatcher: who goes, who waits, who is refused, and what a failure costs whom."""

from __future__ import annotations

import asyncio
import math

import pytest

from router.domain.control.batches import BatchEnded, Start
from router.domain.deployment import BatchProfile
from router.domain.errors import BackendError, Overloaded
from router.domain.events import AttemptEnded, RequestEnded
from router.domain.outcome import Attempt, Delta, Ending
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.domain.view import Health
from tests.regressions.house import WHOLE, House, RunBatch, batching, code_of, virtually

_E2E = Objectives(e2e=Objective(Indicator.E2E, 0.25))
_LOOSE = Objectives(e2e=Objective(Indicator.E2E, 2.0))
PLAIN = RequestClass("all", max_retries=0)


def lasting(base_s: float = 0.03, each_s: float = 0.002) -> RunBatch:
    """An endpoint that takes its time and answers everyone."""

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        await asyncio.sleep(base_s + each_s * len(attempts))
        return (WHOLE,) * len(attempts)

    return run


def choking(on: str, error: Exception, *, called: list[tuple[str, ...]]) -> RunBatch:
    """An endpoint that cannot take a batch with this item in it."""

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        called.append(tuple(a.request.id for a in attempts))
        await asyncio.sleep(0.01)
        if any(a.request.id == on for a in attempts):
            raise error
        return (WHOLE,) * len(attempts)

    return run


async def opened(house: House) -> asyncio.Task[object]:
    """One request that occupies the endpoint, so that those who come next share a batch."""
    first = asyncio.ensure_future(house.attempt("opens"))
    await asyncio.sleep(0.001)
    return first


@pytest.mark.parametrize("error", [BackendError("500"), RuntimeError("boom")])
def test_one_bad_item_fails_its_half_of_the_batch_and_no_more(error: Exception) -> None:
    """The batch is run again in halves, once: the half without the bad item is answered."""

    async def scene() -> None:
        called: list[tuple[str, ...]] = []
        house = batching(choking("r1", error, called=called), PLAIN)
        await opened(house)
        tasks = [house.going(f"r{i}") for i in range(8)]
        await asyncio.sleep(1.0)
        assert [code_of(t) == "ok" for t in tasks] == [False] * 4 + [True] * 4
        assert [len(c) for c in called] == [1, 8, 4, 4]
        reasons = [(e.items, e.reason, e.code is None) for e in house.of(BatchEnded)]
        assert reasons[2:] == [(4, Start.SPLIT, False), (4, Start.SPLIT, True)]
        assert house.in_flight() == 0

    virtually(scene)


def test_a_busy_endpoint_is_not_asked_again_in_halves() -> None:
    """What is no item's fault fails the batch as a whole: halves would only add to the load."""

    async def scene() -> None:
        called: list[tuple[str, ...]] = []
        house = batching(choking("r1", Overloaded("busy"), called=called), PLAIN)
        await opened(house)
        tasks = [house.going(f"r{i}") for i in range(8)]
        await asyncio.sleep(1.0)
        assert {code_of(t) for t in tasks} == {"backend_overloaded"}
        assert len(called) == 2

    virtually(scene)


@pytest.mark.parametrize("sheddable", [True, False])
def test_what_can_no_longer_be_in_time_is_refused_at_once_or_served_late(sheddable: bool) -> None:
    """A batch that hangs for a while leaves twenty who are late: they are answered `slo_unreachable` when the next
    begins, and it counts against nobody; a class that may not be shed rides along. Who has time left is in time."""

    async def scene() -> None:
        tight = RequestClass("tight", objectives=_E2E, sheddable=sheddable, max_retries=0)
        house = batching(stalling_once(0.4), RequestClass("loose", objectives=_LOOSE), tight)
        await opened(house)
        late = [house.going(f"late{i}", request_class="tight") for i in range(20)]
        fresh = [house.going(f"fresh{i}", request_class="loose") for i in range(5)]
        await asyncio.sleep(0.41)
        assert {code_of(t) for t in late} == ({"slo_unreachable"} if sheddable else {"waiting"})
        await asyncio.sleep(1.0)
        assert {code_of(t) for t in late} == ({"slo_unreachable"} if sheddable else {"ok"})
        assert {code_of(t) for t in fresh} == {"ok"}
        assert all(e.slo_met for e in house.of(RequestEnded) if e.request.id.startswith("fresh"))
        told = house.of(BatchEnded)
        assert (sum(e.dropped for e in told), sum(e.late for e in told)) == ((20, 0) if sheddable else (0, 20))
        assert house.member("b").circuit.health is Health.OK
        refused = [e for e in house.of(AttemptEnded) if e.outcome.ending is Ending.CANCELLED]
        assert len(refused) == (20 if sheddable else 0)
        assert all(e.outcome.cost_usd == 0.0 for e in refused)
        assert house.in_flight() == 0

    virtually(scene)


def stalling_once(seconds: float) -> RunBatch:
    """An endpoint whose first batch hangs for a while."""
    left = [seconds]

    async def run(attempts: tuple[Attempt, ...]) -> tuple[Delta, ...]:
        await asyncio.sleep(left.pop() if left else 0.03 + 0.002 * len(attempts))
        return (WHOLE,) * len(attempts)

    return run


def test_of_those_who_are_all_late_one_is_served() -> None:
    """So that the model learns what a batch takes."""

    async def scene() -> None:
        house = batching(stalling_once(0.4), RequestClass("all", objectives=_E2E, sheddable=True, max_retries=0))
        await opened(house)
        tasks = [house.going(f"r{i}") for i in range(10)]
        await asyncio.sleep(1.0)
        assert sorted(code_of(t) for t in tasks) == ["ok", *["slo_unreachable"] * 9]

    virtually(scene)


def test_an_endpoint_once_thought_too_slow_is_tried_again() -> None:
    """The profile says that no answer can be in time. One request at a time is let through, which finds out that it
    can, and from then on all are answered."""

    async def scene() -> None:
        terms = RequestClass("all", objectives=_E2E, sheddable=True, max_retries=0)
        house = batching(lasting(), terms, batch=BatchProfile(1.0, 0.1))
        codes = []
        for i in range(400):
            codes.append(house.going(f"r{i}"))
            await house.beat(0.02, 0.02)
        await asyncio.sleep(1.0)
        done = [code_of(t) for t in codes]
        assert done[:5].count("ok") == 1
        assert done[200:].count("ok") == 200

    virtually(scene)


def test_classes_share_a_batch_and_the_tightest_slack_binds() -> None:
    """A class with two seconds joins the batch that one with a quarter of a second cannot hold back for long; alone it
    waits for more."""

    async def scene() -> None:
        tight = RequestClass("tight", objectives=_E2E)
        loose = RequestClass("loose", objectives=_LOOSE)
        house = batching(lasting(), loose, tight)
        for i in range(300):
            kind = "tight" if i % 10 == 0 else "loose"
            house.going(f"{kind}{i}", request_class=kind)
            await house.beat(0.02, 0.02)
        await asyncio.sleep(3.0)
        ends = house.of(RequestEnded)
        assert all(e.slo_met for e in ends)
        batches = house.of(BatchEnded)[10:]
        assert sum(e.items for e in batches) / len(batches) > 5.0
        assert max(e.e2e_s for e in ends if e.request_class == "tight") <= 0.25

    virtually(scene)


@pytest.mark.parametrize(("wait_s", "longest_s"), [(None, 0.25), (0.05, 0.06), (0.0, 0.0)])
def test_the_policy_bounds_the_wait(wait_s: float | None, longest_s: float) -> None:
    """Absent, the objective is what bounds it; a figure is the longest deliberate wait; 0 is none."""

    async def scene() -> None:
        house = batching(lasting(), RequestClass("all", objectives=_E2E, batch_wait_s=wait_s))
        for i in range(300):
            house.going(f"r{i}")
            await house.beat(0.02, 0.02)
        await asyncio.sleep(1.0)
        waits = [e.wait_s for e in house.of(BatchEnded)]
        assert max(waits) <= longest_s
        assert max(waits) >= 0.3 * longest_s

    virtually(scene)


def test_who_comes_alone_with_hours_does_not_wait_for_company() -> None:
    """One request to a slow endpoint with 30 hours left: it goes when the arrivals, by its own, are clearly over."""

    async def scene() -> None:
        patient = RequestClass("all", deadline_s=108_000.0, max_retries=0)
        house = batching(lasting(0.5), patient, batch=BatchProfile(0.5, 0.01))
        await house.attempt("alone")
        (told,) = house.of(BatchEnded)
        assert told.wait_s <= 15.0

    virtually(scene)


def test_who_is_promised_nothing_does_not_wait_on_purpose() -> None:
    """There is no time to wait by."""

    async def scene() -> None:
        house = batching(lasting(), PLAIN)
        for i in range(100):
            house.going(f"r{i}")
            await house.beat(0.02, 0.02)
        await asyncio.sleep(1.0)
        told = house.of(BatchEnded)
        assert {e.reason for e in told} == {Start.AT_ONCE}
        assert sum(e.wait_s for e in told) == 0.0

    virtually(scene)


def test_a_full_batch_does_not_wait() -> None:
    """Eight fit: the eighth starts it, though there is time left; what may be in flight bounds it too."""

    async def scene() -> None:
        for bound in ({"max_items": 8}, {"max_in_flight": 8}):
            house = batching(lasting(), RequestClass("all", objectives=_LOOSE), **bound)
            await asyncio.gather(*(house.ask(f"r{i}") for i in range(200)))
            sizes = [e.items for e in house.of(BatchEnded)]
            assert max(sizes) == 8
            assert sum(sizes) == 200
            assert math.isclose(sum(e.wait_s for e in house.of(BatchEnded)[1:-1]), 0.0)

    virtually(scene)


def test_who_leaves_while_it_waits_takes_its_deadline_along() -> None:
    """The tightest of those who wait is gone: the others wait by their own."""

    async def scene() -> None:
        house = batching(lasting(), RequestClass("all", objectives=_LOOSE))
        for i in range(300):
            house.going(f"warm{i}", deadline_s=0.4)
            await house.beat(0.02, 0.02)
        await asyncio.sleep(2.0)
        before = len(house.of(BatchEnded))
        gone = house.going("gone", deadline_s=0.4)
        stays = [house.going(f"stays{i}") for i in range(3)]
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0.4)
        assert len(house.of(BatchEnded)) == before
        await asyncio.sleep(2.0)
        assert {code_of(t) for t in stays} == {"ok"}
        assert house.in_flight() == 0

    virtually(scene)
