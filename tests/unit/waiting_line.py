"""Entries of a line of those who wait, and who of them is served in which order."""

from __future__ import annotations

from router.core.queueing.fair import Entry
from router.core.queueing.line import Line


def entry(lane: str = "a", tenant: str = "t0", priority: int = 0, due: float = 1.0, *, spare: bool = False) -> Entry:
    return Entry(lane, tenant=tenant, priority=priority, due=due, is_spare=spare)


def served(line: Line, work: dict[str, float] | None = None, *, now: float = 0.0, most: int = 10**9) -> list[Entry]:
    """Who is taken, in order, when each grant is as much work as its tenant's requests are."""
    order: list[Entry] = []

    def take(one: Entry) -> bool:
        if len(order) >= most:
            return False
        line.charge(one, 1.0 if work is None else work[one.tenant])
        line.remove(one)
        order.append(one)
        return True

    line.offer(take, now)
    return order
