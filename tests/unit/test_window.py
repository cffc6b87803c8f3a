"""Requests that come together: who is first, who waits, and that they do not herd."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random

import pytest

from router.complexity.estimator import Scored
from router.core.controller import Controller
from router.core.evidence import Hold
from router.core.ticket import Ticket
from router.core.window.window import Window
from router.domain.control.windows import WindowClosed
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, Price, Tier
from router.domain.errors import Rejected
from router.domain.events import Event
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.domain.view import ScrapedLoad
from router.policy.policy import Bounds, Policy
from router.runtime.window import Windows
from router.sim.clock import run_virtual

CHAT = RequestClass("chat", objectives=Objectives(ttft=Objective(Indicator.TTFT, 0.5)), sheddable=True)
PATIENT = RequestClass("patient", deadline_s=60.0)


class Estimator:
    def estimate(self, request: Request) -> Scored:
        return Scored(0.5, "chat", {}, {Tier.SMALL: 0.9, Tier.LARGE: 0.9})


def controller(request_class: RequestClass, *, copies: int = 4, window_s: float = 0.003) -> Controller:
    def one(i: int) -> Deployment:
        name = DeploymentName(f"d{i}")
        return Deployment(name, name, "m", Tier.SMALL, Kind.CONTINUOUS, Address("x", name), Price(0.2, 0.2))

    policy = Policy("p", (request_class,), tuple(map(one, range(copies))), Bounds(window_s=window_s))
    return Controller(policy, Estimator(), rng=Random(0))


def asked(number: int, tokens: int = 500, *, now: float = 1.0, priority: int | None = None) -> Request:
    return Request(RequestId(str(number)), now, now, Prompt("x"), tokens, stream=True, priority=priority)


def start(house: Controller, ticket: Ticket, now: float) -> str:
    assert not isinstance(house.decide(ticket, now=now), Hold)
    return house.start(ticket, now=now)[0].deployment.name


def test_a_window_spreads_like_decisions_one_by_one_on_telemetry_that_is_late() -> None:
    """32 requests at once on four copies, of one of which late telemetry says that it is loaded: the window decides
    each exactly as it would have been decided by itself, evidence included, and nobody follows the herd to one copy."""
    made: list[list[object]] = []
    for together in (False, True):
        house = controller(CHAT)
        house.on_load(ScrapedLoad("d0", 20, 0, None, 0.5))
        tickets = [house.admit(asked(i), now=1.0) for i in range(32)]
        if together:
            with house.window.still():
                went = [start(house, ticket, 1.0) for ticket in Window.order(tickets)]
        else:
            went = [start(house, ticket, 1.0) for ticket in tickets]
        counts = Counter(went)
        assert max(counts.values()) - min(counts[f"d{i}"] for i in (1, 2, 3)) <= 1
        made.append([ticket.decision for ticket in tickets])
    assert made[0] == made[1]


def test_priority_goes_first_and_then_the_shortest_prompt() -> None:
    """A lower priority never goes before a higher one; within a priority the least work is first."""
    house = controller(CHAT)
    requests = (asked(1, 900), asked(2, 100), asked(3, 5000, priority=9), asked(4, 300))
    tickets = [house.admit(request, now=1.0) for request in requests]
    assert [t.request.id for t in Window.order(tickets)] == ["3", "2", "4", "1"]


def test_only_a_crowd_at_a_short_deployment_is_gathered() -> None:
    """Decided at once: whoever has a deployment to itself, whoever finds room everywhere, and all where the window is
    0."""
    house = controller(CHAT, copies=1)
    first, *others = (house.admit(asked(i, 5000), now=1.0) for i in range(4))
    assert not any(house.window.gathers(ticket, 1.0) for ticket in (first, *others))
    start(house, first, 1.0)
    assert [house.window.gathers(ticket, 2.0 + 0.001 * i) for i, ticket in enumerate(others)] == [False, True, True]
    assert not house.window.gathers(first, 2.01)
    off = controller(CHAT, copies=1, window_s=0.0)
    tickets = [off.admit(asked(i, 5000), now=1.0) for i in range(2)]
    start(off, tickets[0], 1.0)
    assert not any(off.window.gathers(tickets[1], 1.0) for _ in range(4))


def test_who_has_time_waits_while_prices_are_above_what_they_usually_are() -> None:
    """A request with a minute waits while a burst makes capacity dear, for a bounded time; one that was promised an
    early first token never does; and once the price has become usual nobody waits for it to fall."""
    house = controller(PATIENT, copies=1)
    ticket, price = house.admit(asked(1), now=1.0), house.fleet.members[DeploymentName("d0")].price
    assert not house.window.waits(ticket, since=1.0, now=1.0)
    price.tick(now=0.5)
    price.integral = 2.0
    assert house.window.waits(ticket, since=1.0, now=1.0)
    assert not house.window.waits(ticket, since=1.0, now=6.5)
    for left_s in (0.1, 1.0, 3.0):
        hurried = house.admit(asked(2, now=1.0 + left_s - 60.0), now=1.0)
        assert not house.window.waits(hurried, since=1.0, now=1.0)
    chat = controller(CHAT, copies=1)
    chat.fleet.members[DeploymentName("d0")].price.integral = 2.0
    assert not chat.window.waits(chat.admit(asked(3), now=1.0), since=1.0, now=1.0)
    for i in range(8000):
        price.tick(now=1.0 + 0.1 * i)
        price.integral = 2.0
    later = house.admit(asked(4, now=900.0), now=900.0)
    assert not house.window.waits(later, since=900.0, now=900.0)


class Told:
    """A clock and a sink."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    at = now

    def stopwatch(self) -> float:
        return 0.0

    def emit(self, event: Event) -> None:
        self.events.append(event)


Scene = Callable[[Windows, Controller, Told], Coroutine[None, None, None]]


def played(scene: Scene, grant: Callable[[Ticket], object], withdrawn: list[object]) -> Told:
    told, house = Told(), controller(CHAT, copies=2)
    house.fleet.members[DeploymentName("d0")].price.integral = 1.0

    async def main() -> None:
        windows = Windows(house.window, lambda t, now=None: grant(t), lambda _, g: withdrawn.append(g), told, told)
        await scene(windows, house, told)

    run_virtual(main())
    return told


def test_a_crowd_is_granted_together_after_one_window_and_each_has_its_own_trouble() -> None:
    """The first two are decided at once, those after them 3 ms later in the order of the window; who is refused is
    refused alone, and the wait is counted as waiting."""
    order: list[str] = []

    def grant(ticket: Ticket) -> object:
        order.append(str(ticket.request.id))
        if ticket.request.id == "3":
            raise Rejected("no")
        return ticket.request.id

    async def scene(windows: Windows, house: Controller, told: Told) -> None:
        tickets = [house.admit(asked(i, 1000 - 100 * i, now=0.0), now=0.0) for i in range(5)]
        results = await asyncio.gather(*map(windows.grant, tickets), return_exceptions=True)
        assert [str(r) for r in results] == ["0", "1", "2", "no", "4"]
        assert told.now() == pytest.approx(0.003)
        assert [t.queue_s for t in tickets] == pytest.approx([0.0, 0.0, 0.003, 0.003, 0.003])

    told = played(scene, grant, [])
    assert order == ["0", "1", "4", "3", "2"]
    assert told.events == [WindowClosed(3, 0)]


def test_who_goes_while_the_window_is_open_is_never_decided_and_later_gives_it_back() -> None:
    """A sender that leaves before the window closes costs no decision; one that leaves when its grant is there, but not
    yet taken, has it withdrawn."""
    granted: list[str] = []
    withdrawn: list[object] = []

    def grant(ticket: Ticket) -> object:
        granted.append(str(ticket.request.id))
        if ticket.request.id == "5":
            tasks[3].cancel()
        return ticket.request.id

    tasks: list[asyncio.Task[object]] = []

    async def scene(windows: Windows, house: Controller, told: Told) -> None:
        tickets = [house.admit(asked(i, 100 * i, now=0.0), now=0.0) for i in range(1, 6)]
        tasks.extend(asyncio.ensure_future(windows.grant(ticket)) for ticket in tickets)
        await asyncio.sleep(0.001)
        tasks[2].cancel()
        await asyncio.sleep(0.01)
        assert [t.cancelled() for t in tasks] == [False, False, True, True, False]

    played(scene, grant, withdrawn)
    assert granted == ["1", "2", "4", "5"]
    assert withdrawn == ["4"]
