"""Where requests wait until a deployment has room: earliest due first within priority, bounded.

Requests that may go to the same deployments at the same price wait in one lane, so that those nothing can take keep
nobody from an idle deployment. `pump` is called whenever room may have come, and `expire` at every heartbeat: without a
heartbeat nobody is ever told that it has waited too long.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from router.core.controller import Hold, Lane
from router.core.ticket import Ticket
from router.domain.errors import Evicted, Expired, Rejected, RouterError

_SCAN = 4
"""How many of a lane are tried past one that nothing can take: they may be smaller, or less dear."""


class Waiter:
    """One waiting request. `granted` resolves to what `grant` made of it, or to why it was refused."""

    __slots__ = ("due", "granted", "key", "lane", "since", "ticket")

    def __init__(self, ticket: Ticket, lane: Lane, number: int, since: float) -> None:
        self.ticket = ticket
        self.lane = lane
        self.due = ticket.due()
        self.key = (-ticket.priority, self.due, number)
        self.since = since
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

    def __len__(self) -> int:
        return self._size

    def oldest_s(self) -> float:
        """How long the longest waiter has waited."""
        now = self._now()
        return max((now - w.since for lane in self._lanes.values() for w in lane), default=0.0)

    def blocks(self, ticket: Ticket) -> bool:
        """Whether others wait in the ticket's lane, so that it has to queue behind or before them."""
        return bool(self._size) and bool(self._lanes.get(self._lane_of(ticket)))

    def add(self, ticket: Ticket) -> Waiter:
        """Wait in line; raises `Rejected` when the queue is full of nothing that may give way."""
        if self._size >= ticket.policy.bounds.queue_requests:
            self._make_room(ticket)
        waiter = Waiter(ticket, self._lane_of(ticket), next(self._sequence), self._now())
        insort(self._lanes.setdefault(waiter.lane, []), waiter, key=lambda w: w.key)
        self._size += 1
        return waiter

    def _make_room(self, ticket: Ticket) -> None:
        """Push out the least urgent that may be shed."""
        waiting = (w for lane in self._lanes.values() for w in lane if w.ticket.request_class.sheddable)
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
            return False
        self.remove(waiter)
        waiter.granted.set_result(result)
        return True

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
    if ticket.request_class.sheddable and now >= waiter.due:
        return Rejected("no deployment had room within its objective", code="slo_unreachable", retry_after_s=1.0)
    if now - waiter.since > ticket.policy.bounds.queue_wait_s:
        return Rejected("it waited as long as the policy allows", code="queue_timeout", retry_after_s=1.0)
    return None


def _refuse(waiter: Waiter, error: Exception) -> None:
    if not waiter.granted.done():
        waiter.granted.set_exception(error)
