"""What does standing in line cost? `python -m bench.queue [--size 10000]`

A full queue of `size` who wait in eight lanes, of one tenant and of a hundred: coming, being granted in turn, leaving
again, a heartbeat that expires nobody, and coming while the queue is full, so that somebody is pushed out. The decision
itself is left out. Operations a second on this machine, and microseconds each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from random import Random

from router.complexity.estimator import Scored
from router.core.controller import Lane
from router.core.evidence import Hold
from router.core.rollouts.placed import Placed
from router.core.ticket import Ticket
from router.domain.deployment import Tier
from router.domain.errors import Rejected
from router.domain.request import Prompt, Request, RequestId
from router.domain.slo import Indicator, Objective, Objectives, Parameters, RequestClass
from router.policy.policy import Bounds, Policy
from router.runtime.queue import Queue, Waiter

_LANES = 8
_OPERATIONS = 2000


class Bench:
    """A queue over a grant function that takes as many as it is told to."""

    def __init__(self, size: int, tenants: int) -> None:
        promise = Objectives(ttft=Objective(Indicator.TTFT, 1e6))
        self.classes = [RequestClass(f"c{i}", objectives=promise, sheddable=True) for i in range(_LANES)]
        self.policy = Policy("bench", tuple(self.classes), (), Bounds(queue_requests=size, queue_wait_s=1e6))
        self.rng, self.now, self.room = Random(0), 0.0, 0
        self.tenants, self.number = tenants, 0
        self.queue = Queue(self.grant, self.lane, lambda: self.now, lambda ticket, now: 1e6)

    def grant(self, ticket: Ticket) -> object:
        if self.room <= 0:
            return Hold(())
        self.room -= 1
        return True

    def lane(self, ticket: Ticket) -> Lane:
        return frozenset((ticket.request_class.name,)), None, ""

    def ticket(self) -> Ticket:
        self.number += 1
        self.now += 1e-4
        request_class = self.rng.choice(self.classes)
        tenant = f"t{self.rng.randrange(self.tenants)}"
        request = Request(RequestId(str(self.number)), self.now, self.now, Prompt("x"), 10, tenant=tenant)
        placed = Placed(self.policy, request_class)
        deadline = self.now + 1e5 * (1.0 + self.rng.random())
        scored = Scored(0.5, "chat", {}, {Tier.SMALL: 0.5})
        return Ticket(
            request, placed=placed, scored=scored, parameters=Parameters(), forced=None, deadline=deadline, aim=deadline
        )


def each_us(operation: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        operation()
    return (time.perf_counter() - started) / times * 1e6


async def measure(size: int, tenants: int) -> dict[str, float]:
    bench = Bench(size, tenants)
    waiters: list[Waiter] = []
    found = {"add": each_us(lambda: waiters.append(bench.queue.add(bench.ticket())), size)}
    found["make a ticket"] = each_us(bench.ticket, _OPERATIONS)

    def refused() -> None:
        try:
            waiters.append(bench.queue.add(bench.ticket()))
        except Rejected:
            return

    found["add when full"] = each_us(refused, _OPERATIONS)
    found["pump, nobody granted"] = each_us(bench.queue.pump, _OPERATIONS // 10)

    def one() -> None:
        bench.room = 1
        bench.queue.pump()

    found["pump, one granted"] = each_us(one, _OPERATIONS)
    leaving = [w for w in waiters if not w.granted.done()][:_OPERATIONS]
    bench.rng.shuffle(leaving)
    found["remove"] = each_us(lambda: bench.queue.remove(leaving.pop()), len(leaving))

    def beat() -> None:
        bench.queue.expire()
        bench.queue.observed()

    found["heartbeat"] = each_us(beat, 50)
    for waiter in waiters:
        if waiter.granted.done():
            waiter.granted.exception()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000, help="how many wait")
    size = parser.parse_args().size
    for tenants in (1, 100):
        found = asyncio.run(measure(size, tenants))
        rows = {name: {"us": round(us, 2), "per_s": round(1e6 / us)} for name, us in found.items()}
        print(json.dumps({"waiting": size, "tenants": tenants, **rows}, indent=1))


if __name__ == "__main__":
    main()
