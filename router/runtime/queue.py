"""Where requests wait until a deployment has room: earliest due first within priority, bounded."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from itertools import count

from router.core.controller import Hold
from router.core.ticket import Ticket
from router.domain.errors import Evicted, Expired, Rejected, RouterError

_SCAN = 32
"""How many waiting requests are tried past one that nothing can take."""


class Waiter:
    """One waiting request. `granted` resolves to what `grant` made of it, or to why it was refused."""

    __slots__ = ("due", "granted", "key", "since", "ticket")

    def __init__(self, ticket: Ticket, key: tuple[int, float, int], since: float) -> None:
        self.ticket = ticket
        self.key = key
        self.due = ticket.due()
        self.since = since
        self.granted: asyncio.Future[object] = asyncio.get_running_loop().create_future()


class Queue:
    """Holds waiters in order. It never decides: `pump` asks the grant function, which may say `Hold`."""

    def __init__(self, grant: Callable[[Ticket], object], now: Callable[[], float]) -> None:
        self._grant = grant
        self._now = now
        self._waiting: list[Waiter] = []
        self._sequence = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_s(self) -> float:
        """How long the longest waiter has waited."""
        now = self._now()
        return max((now - w.since for w in self._waiting), default=0.0)

    def add(self, ticket: Ticket) -> Waiter:
        """Wait in line; raises `Rejected` when the queue is full of nothing that may give way."""
        if len(self._waiting) >= ticket.policy.bounds.queue_requests:
            self._make_room(ticket)
        waiter = Waiter(ticket, (-ticket.priority, ticket.due(), next(self._sequence)), self._now())
        insort(self._waiting, waiter, key=lambda w: w.key)
        return waiter

    def _make_room(self, ticket: Ticket) -> None:
        last = next((w for w in reversed(self._waiting) if w.ticket.request_class.sheddable), None)
        if last is None or last.ticket.priority >= ticket.priority:
            raise Rejected("the queue is full", code="queue_full", retry_after_s=1.0)
        self._waiting.remove(last)
        _refuse(last, Evicted("pushed out of a full queue by a more urgent request", retry_after_s=1.0))

    def remove(self, waiter: Waiter) -> None:
        """Leave the line without an answer."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def pump(self) -> None:
        """Grant what can be granted, in order; stop after a few that nothing can take."""
        held = 0
        for waiter in tuple(self._waiting):
            if held >= _SCAN:
                break
            if waiter.granted.done():
                self.remove(waiter)
                continue
            try:
                result = self._grant(waiter.ticket)
            except RouterError as error:
                self._waiting.remove(waiter)
                _refuse(waiter, error)
                continue
            if isinstance(result, Hold):
                held += 1
            else:
                self._waiting.remove(waiter)
                waiter.granted.set_result(result)

    def expire(self) -> None:
        """Answer at once what can no longer be in time: past its deadline, or sheddable and past its objective."""
        now = self._now()
        for waiter in tuple(self._waiting):
            ticket = waiter.ticket
            error: RouterError | None = None
            if ticket.deadline is not None and now >= ticket.deadline:
                error = Expired("the deadline passed while it waited for a deployment with room")
            elif ticket.request_class.sheddable and now >= waiter.due:
                error = Rejected(
                    "no deployment had room within its objective", code="slo_unreachable", retry_after_s=1.0
                )
            elif now - waiter.since > ticket.policy.bounds.queue_wait_s:
                error = Rejected("it waited as long as the policy allows", code="queue_timeout", retry_after_s=1.0)
            if error is not None:
                self._waiting.remove(waiter)
                _refuse(waiter, error)


def _refuse(waiter: Waiter, error: RouterError) -> None:
    if not waiter.granted.done():
        waiter.granted.set_exception(error)
