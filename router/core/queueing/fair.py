"""Tenants share what gets free: start-time fair queueing (Goyal, Vin and Cheng, 1996) on expected work.

Each tenant of a priority is a flow with a tag, in seconds of server work by weight. Who begins to wait gets the tag
max(virtual time, its own last tag); the flow with the least tag is next; what it was granted adds work / weight to its
tag, and the virtual time is the tag that was granted last in this order. The work of a request is known when it is
granted (the server seconds that the decision expects of it), so tags belong to flows and not to requests, and a
tenant's own requests can be ordered by when they are due.

A request whose slack is nearly gone goes before its turn as long as its tenant's tag is at most `credit` past the
virtual time. `credit` is the work of `_EARLY` mean requests. Such a grant moves no virtual time.

The bound. Let i and j wait in one lane all the while. A grant in turn finds the least tag; one before its turn finds a
tag of at most virtual time + credit, and the virtual time never passes the tag of one who waits there. With the work W
granted since, the largest work l of one request and the weights w,

    |W_i / w_i - W_j / w_j|  <=  l_i / w_i + l_j / w_j + credit

however many requests j sends, and however urgent they say they are. A tenant that comes anew waits for at most one
request of each other tenant, and the credit of each. Tags are shared by all lanes of a priority, so what a tenant got
in one lane counts in the others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable
from math import inf

_EARLY = 4.0
_MEMORY = 50
"""Grants over which the mean work of a request is taken."""

Lane = Hashable


class Entry:
    """One who waits: for what (`lane`), whose it is, and by when it should have been let go (`due`). `is_spare`: it may
    be shed. `is_held`: nothing but a budget keeps it, so it takes no place of those who wait for room. From `urgent_at`
    on it may go before its turn."""

    __slots__ = (
        "due",
        "is_gone",
        "is_held",
        "is_passed",
        "is_spare",
        "lane",
        "number",
        "priority",
        "tenant",
        "urgent_at",
        "was_early",
    )

    def __init__(self, lane: Lane, *, tenant: str, priority: int, due: float, is_spare: bool) -> None:
        self.lane, self.tenant, self.priority = lane, tenant, priority
        self.due, self.is_spare = due, is_spare
        self.urgent_at = inf
        self.number = 0
        self.is_held = self.is_gone = self.is_passed = self.was_early = False


Place = tuple[float, int, Entry]


class Flow:
    """Those of one tenant at one priority. `waiting` counts those who wait for room, `spare` holds those of them who
    may be shed, by when they are due; `queues` everybody, by lane."""

    __slots__ = ("number", "queues", "spare", "tag", "tenant", "waiting", "weight")

    def __init__(self, tenant: str, number: int, weight: float, tag: float) -> None:
        self.tenant, self.number, self.weight, self.tag = tenant, number, weight, tag
        self.waiting = 0
        self.queues: dict[Lane, list[Place]] = {}
        self.spare: list[Place] = []


class Ranking:
    """Flows by how many places they have for their weight."""

    __slots__ = ("_by_load", "_loads")

    def __init__(self) -> None:
        self._by_load: list[tuple[float, int, Flow]] = []
        self._loads: dict[int, float] = {}

    def put(self, flow: Flow, places: int) -> None:
        """It has this many now; one with none is not ranked."""
        load, old = places / flow.weight, self._loads.pop(flow.number, None)
        if old is not None:
            del self._by_load[bisect_left(self._by_load, (old, flow.number))]
        if places:
            insort(self._by_load, (load, flow.number, flow))
            self._loads[flow.number] = load

    def most(self) -> tuple[float, Flow] | None:
        """The one with most, and its places by weight."""
        return (self._by_load[-1][0], self._by_load[-1][2]) if self._by_load else None


class Level:
    """The flows of one priority and their virtual time."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.flows: dict[str, Flow] = {}
        self.all, self.spares = Ranking(), Ranking()
        self._virtual = 0.0
        self._mean_work = 0.0
        self._count = self._grants = 0

    @property
    def credit(self) -> float:
        """How far past the virtual time a tag may be for a grant before its turn."""
        return _EARLY * self._mean_work

    def flow(self, tenant: str, weight: float) -> Flow:
        """The flow of a tenant, which begins to wait if it did not."""
        flow = self.flows.get(tenant)
        if flow is None:
            self._count += 1
            flow = self.flows[tenant] = Flow(tenant, self._count, weight, self._virtual)
        elif not flow.queues:
            flow.tag = max(flow.tag, self._virtual)
        if flow.weight != weight:
            flow.weight = weight
            self.rank(flow)
        return flow

    def rank(self, flow: Flow) -> None:
        """Its places changed."""
        self.all.put(flow, flow.waiting)
        self.spares.put(flow, len(flow.spare))

    def charge(self, flow: Flow, work: float, *, early: bool) -> None:
        """It was granted this much work; `early`: before its turn."""
        self._grants = min(self._grants + 1, _MEMORY)
        self._mean_work += (work / flow.weight - self._mean_work) / self._grants
        if not early:
            self._virtual = max(self._virtual, flow.tag)
        flow.tag += work / flow.weight

    def may_hurry(self, flow: Flow) -> bool:
        """Whether it may be granted something before its turn."""
        return flow.tag <= self._virtual + self.credit

    def forget(self) -> None:
        """Forget who waits for nothing and is not ahead of the others; where nobody waits, nobody is."""
        idle = [flow for flow in self.flows.values() if not flow.queues]
        if len(idle) == len(self.flows):
            self._virtual = max((flow.tag for flow in idle), default=self._virtual)
        for flow in idle:
            if flow.tag <= self._virtual:
                del self.flows[flow.tenant]
