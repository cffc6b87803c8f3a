"""Where requests wait until a deployment has room: earliest due first within priority, bounded.

Requests that may go to the same deployments at the same price wait in one lane, so that those nothing can take keep
nobody from an idle deployment. `pump` is called whenever room may have come, and `expire` at every heartbeat: without a
heartbeat nobody is ever told that it has waited too long.

Who is kept by the budget of its class alone is *held* for the next day, in the lane of its class. It waits as long as
its deadline allows, takes no place of those who wait for room (the bound holds for the held of each class by
themselves) and does not count where an ingress asks whether to go on reading. At the turn of the day the lane is
granted in order, as far as limits and the new budget allow; patience begins for each when it is its turn.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from router.core.controller import Lane
from router.core.evidence import Hold
from router.core.spending.account import resets_s
from router.core.spending.spending import wall
from router.core.ticket import Ticket
from router.domain.errors import Evicted, Expired, Rejected, RouterError

_SCAN = 4
"""How many of a lane are tried past one that nothing can take: they may be smaller, or less dear."""


class Waiter:
    """One waiting request. `granted` resolves to what `grant` made of it, or to why it was refused."""

    __slots__ = ("due", "granted", "is_held", "key", "lane", "patient_since", "since", "ticket")

    def __init__(self, ticket: Ticket, lane: Lane, number: int, since: float) -> None:
        self.ticket = ticket
        self.lane = lane
        self.due = ticket.due()
        self.key = (-ticket.priority, self.due, number)
        self.since = self.patient_since = since
        self.is_held = False
        self.granted: asyncio.Future[object] = asyncio.get_running_loop().create_future()


class Queue:
    """Holds waiters in order. It never decides: it asks the grant function, which may say `Hold`."""

    def __init__(
        self,
        grant: Callable[[Ticket], object],
        lane_of: Callable[[Ticket], Lane],
        now: Callable[[], float],
    ) -> None:
        self._grant = grant
        self._lane_of = lane_of
        self._now = now
        self._lanes: dict[Lane, list[Waiter]] = {}
        self._sequence = count()
        self._size = 0
        self._held: Counter[str] = Counter()
        self._held_by_source: Counter[str] = Counter()
        self._is_closing = False

    def __len__(self) -> int:
        return self._size

    @property
    def waiting(self) -> int:
        """Those who wait for room."""
        return self._size - self._held.total()

    def held(self, source: str) -> int:
        """Those of an ingress who are held for the next day's budget."""
        return self._held_by_source[source]

    def oldest_s(self) -> float:
        """How long the longest has waited of those who wait for room."""
        now = self._now()
        patient = (now - w.patient_since for lane in self._lanes.values() for w in lane if not w.is_held)
        return max(patient, default=0.0)

    def blocks(self, ticket: Ticket) -> bool:
        """Whether others wait in the ticket's lane, so that it has to queue behind or before them."""
        return bool(self._size) and bool(self._lanes.get(self._lane_of(ticket)))

    def add(self, ticket: Ticket, *, for_budget: bool = False) -> Waiter:
        """Wait in line; raises `Rejected` when the queue is full of nothing that may give way. `for_budget`: held for
        the next day, as is who comes behind one that is held."""
        name, now = self._lane_of(ticket), self._now()
        lane, most = self._lanes.get(name), ticket.policy.bounds.queue_requests
        is_held = for_budget or bool(lane and lane[0].is_held)
        if is_held:
            self._check_held(ticket, most)
        elif self.waiting >= most:
            self._make_room(ticket)
        waiter = Waiter(ticket, name, next(self._sequence), now)
        insort(self._lanes.setdefault(name, []), waiter, key=lambda w: w.key)
        self._size += 1
        if is_held:
            self._hold(waiter)
        return waiter

    def _check_held(self, ticket: Ticket, most: int) -> None:
        if self._is_closing:
            raise _closing()
        if self._held[ticket.request_class.name] >= most:
            raise Rejected(
                "the budget of this request's class is spent, and as many wait for the next as the policy allows",
                code="insufficient_quota",
                retry_after_s=resets_s(wall(ticket.request, self._now())),
            )

    def _hold(self, waiter: Waiter) -> None:
        """Nothing but the budget keeps it from here on."""
        waiter.is_held, ticket = True, waiter.ticket
        if ticket.held_since is None:
            ticket.held_since = self._now()
        self._count_held(waiter, 1)

    def _release(self, waiter: Waiter) -> None:
        """There is a budget, but no room: its patience begins."""
        waiter.is_held, waiter.patient_since, waiter.due = False, self._now(), waiter.ticket.due()
        self._count_held(waiter, -1)

    def _count_held(self, waiter: Waiter, change: int) -> None:
        ticket = waiter.ticket
        self._held[ticket.request_class.name] += change
        self._held_by_source[ticket.request.source] += change

    def turn_away(self) -> None:
        """The router is shutting down: who is held, now or later, is told so at once."""
        self._is_closing = True
        for waiter in [w for lane in self._lanes.values() for w in lane if w.is_held]:
            self.remove(waiter)
            _refuse(waiter, _closing())

    def _make_room(self, ticket: Ticket) -> None:
        """Push out the least urgent that may be shed."""
        patient = (w for lane in self._lanes.values() for w in lane if not w.is_held)
        waiting = (w for w in patient if w.ticket.request_class.sheddable)
        last = max(waiting, key=lambda w: w.key, default=None)
        if last is None or last.ticket.priority >= ticket.priority:
            raise Rejected("the queue is full", code="queue_full", retry_after_s=1.0)
        self.remove(last)
        _refuse(last, Evicted("pushed out of a full queue by a more urgent request", retry_after_s=1.0))

    def remove(self, waiter: Waiter) -> None:
        """Leave the line without an answer; doing so twice is harmless."""
        lane = self._lanes.get(waiter.lane, [])
        if waiter in lane:
            lane.remove(waiter)
            self._size -= 1
            if waiter.is_held:
                self._count_held(waiter, -1)
                waiter.is_held = False
            if not lane:
                del self._lanes[waiter.lane]

    def pump(self) -> None:
        """Grant what can be granted, the most urgent of all lanes first; a lane that nothing can take is left."""
        heads = [(lane[0].key, name) for name, lane in self._lanes.items()]
        heapify(heads)
        held: dict[Lane, int] = {}
        while heads:
            _, name = heappop(heads)
            position = held.get(name, 0)
            lane = self._lanes.get(name, [])
            if position >= min(len(lane), _SCAN + 1):
                continue
            if not self._settle(lane[position]):
                held[name] = position + 1
            lane = self._lanes.get(name, [])
            position = held.get(name, 0)
            if position < len(lane):
                heappush(heads, (lane[position].key, name))

    def _settle(self, waiter: Waiter) -> bool:
        """Try one waiter; false if it has to go on waiting."""
        if waiter.granted.done():
            self.remove(waiter)
            return True
        try:
            result = self._grant(waiter.ticket)
        except Exception as error:  # one waiter's trouble is its own
            self.remove(waiter)
            _refuse(waiter, error)
            return True
        if isinstance(result, Hold):
            return self._stays(waiter, result)
        self.remove(waiter)
        waiter.granted.set_result(result)
        return True

    def _stays(self, waiter: Waiter, hold: Hold) -> bool:
        """It goes on waiting, for room or for a budget; true if it may not."""
        if waiter.is_held and not hold.for_budget:
            self._release(waiter)
        elif hold.for_budget and not waiter.is_held:
            try:
                self._check_held(waiter.ticket, waiter.ticket.policy.bounds.queue_requests)
            except Rejected as error:
                self.remove(waiter)
                _refuse(waiter, error)
                return True
            self._hold(waiter)
        return False

    def expire(self) -> None:
        """Answer at once what can no longer be in time: past its deadline, or sheddable and past its objective."""
        now = self._now()
        for waiter in [w for lane in self._lanes.values() for w in lane]:
            error = _overdue(waiter, now)
            if error is not None:
                self.remove(waiter)
                _refuse(waiter, error)


def _overdue(waiter: Waiter, now: float) -> RouterError | None:
    ticket = waiter.ticket
    if ticket.deadline is not None and now >= ticket.deadline:
        return Expired("the deadline passed while it waited for a deployment with room")
    if waiter.is_held:
        return None
    if ticket.request_class.sheddable and now >= waiter.due:
        return Rejected("no deployment had room within its objective", code="slo_unreachable", retry_after_s=1.0)
    if now - waiter.patient_since > ticket.policy.bounds.queue_wait_s:
        return Rejected("it waited as long as the policy allows", code="queue_timeout", retry_after_s=1.0)
    return None


def _closing() -> Rejected:
    return Rejected("the router is shutting down", code="draining", retry_after_s=1.0)


def _refuse(waiter: Waiter, error: Exception) -> None:
    if not waiter.granted.done():
        waiter.granted.set_exception(error)
