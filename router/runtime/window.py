"""Waits a few milliseconds for those who come at the same time, and has them decided together (`core.window`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from router.core.ticket import Ticket
from router.core.window.window import LOOK_S, Window
from router.domain.control.windows import WindowClosed
from router.ports.clock import Clock
from router.ports.dispatch import EventSink

_MOST_KEPT = 100
"""Left for a later window at once: each is weighed anew at every look."""


class Grant(Protocol):
    """Decides a ticket at a given time."""

    def __call__(self, ticket: Ticket, now: float | None = None) -> object: ...


class _Waiter:
    __slots__ = ("granted", "since", "ticket")

    def __init__(self, ticket: Ticket, since: float) -> None:
        self.ticket, self.since = ticket, since
        self.granted: asyncio.Future[object] = asyncio.get_running_loop().create_future()


class Windows:
    """One window after the other; in between, requests are decided as they come."""

    def __init__(
        self, window: Window, grant: Grant, withdraw: Callable[[Ticket, object], None], clock: Clock, sink: EventSink
    ) -> None:
        """`withdraw` gives back a grant that nobody waits for any more."""
        self._window, self._grant, self._withdraw = window, grant, withdraw
        self._clock, self._sink = clock, sink
        self._waiters: list[_Waiter] = []
        self._kept: list[_Waiter] = []

    async def grant(self, ticket: Ticket) -> object:
        """What `grant` makes of the ticket, at once or at the end of a window."""
        now = self._clock.now()
        if not self._window.gathers(ticket, now) and not self._waiters:
            return self._grant(ticket)
        waiter = _Waiter(ticket, now)
        if not self._waiters:
            asyncio.get_running_loop().call_later(ticket.policy.bounds.window_s, self._close)
        self._waiters.append(waiter)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        finally:
            ticket.queue_s += self._clock.now() - now

    def _leave(self, waiter: _Waiter) -> None:
        granted = waiter.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self._withdraw(waiter.ticket, granted.result())

    def _close(self) -> None:
        waiters, self._waiters = self._waiters, []
        self._decide(waiters)

    def _look(self) -> None:
        kept, self._kept = self._kept, []
        self._decide(kept)

    def _decide(self, waiters: list[_Waiter]) -> None:
        now, was_empty = self._clock.now(), not self._kept
        there = {id(w.ticket): w for w in waiters if not w.granted.done()}
        with self._window.still():
            ordered = self._window.order([w.ticket for w in there.values()])
            left = sum(not self._settle(there[id(ticket)], now) for ticket in ordered)
        if was_empty and self._kept:
            asyncio.get_running_loop().call_later(LOOK_S, self._look)
        if there:
            self._sink.emit(WindowClosed(len(there) - left, left))

    def _settle(self, waiter: _Waiter, now: float) -> bool:
        """Decide one; false if it is left for a later window."""
        try:
            has_place = len(self._kept) < _MOST_KEPT
            if has_place and self._window.waits(waiter.ticket, since=waiter.since, now=now):
                self._kept.append(waiter)
                return False
            granted = self._grant(waiter.ticket, now)
        except Exception as error:  # one request's trouble is its own
            if not waiter.granted.done():
                waiter.granted.set_exception(error)
            return True
        if waiter.granted.done():
            self._withdraw(waiter.ticket, granted)
        else:
            waiter.granted.set_result(granted)
        return True
