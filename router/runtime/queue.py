"""Where requests wait until a deployment has room: in the order of `core.queueing.line`, bounded.

By priority, which is strict: a lower one goes on as soon as nothing higher waits in its lane, and what it may have to
wait is bounded by its deadline and by `queue_wait`, after which it is told. Nothing rises by waiting: a class that must
not starve gets the priority of those it stands beside, where the tenants' weights share. Within a priority by tenant,
and of a tenant by when it is due.

`pump` is called whenever room may have come, and `expire` at every heartbeat: without a heartbeat nobody is ever told
that it has waited too long. What may be shed is told so as early as it is known: when it comes, if the line ahead
of it will not have moved far enough by the last moment at which a start is of use; while it waits, when that moment has
passed; when its turn comes, likewise. That moment is a lucky one (`core.queueing.outlook`), so that what could still be
in time is not refused. What may not be shed waits for its deadline.

Who is kept by the budget of its class alone is *held* for the next day, in the lane of its class. It waits as long as
its deadline allows, takes no place of those who wait for room (the bound holds for the held of each class by
themselves) and does not count where an ingress asks whether to go on reading. At the turn of the day the lane is
granted in order, as far as limits and the new budget allow; patience begins for each when it is its turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from math import inf

from router.core.controller import Lane
from router.core.evidence import Hold
from router.core.queueing.drain import Drain
from router.core.queueing.fair import Entry
from router.core.queueing.lazy import LazyHeap
from router.core.queueing.line import Line
from router.core.queueing.tally import Tally
from router.core.spending.account import resets_s
from router.core.spending.spending import wall
from router.core.ticket import Ticket
from router.domain.errors import Evicted, Expired, Rejected, RouterError
from router.domain.events import QueueObserved

_HURRY = 0.75
"""Share of the time that it may wait at most, after which a request may go before its turn."""
_TENANTS_TOLD = 200


class Waiter(Entry):
    """One waiting request. `granted` resolves to what `grant` made of it, or to why it was refused. `late_at` is the
    last moment at which a start is of use, `expires_at` when it is told that it has waited in vain."""

    __slots__ = ("expires_at", "granted", "late_at", "patient_since", "since", "ticket")

    def __init__(self, ticket: Ticket, lane: Lane, since: float) -> None:
        request = ticket.request
        spare = ticket.request_class.sheddable
        super().__init__(lane, tenant=request.tenant, priority=ticket.priority, due=ticket.due(), is_spare=spare)
        self.ticket = ticket
        self.since = self.patient_since = since
        self.late_at = self.expires_at = inf
        self.granted: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def plan(self, latest: float) -> None:
        """Until when it waits, and from when on it may hurry, where a start is of use until `latest`."""
        ticket = self.ticket
        self.late_at = min(latest, ticket.due())
        self.expires_at = inf if ticket.deadline is None else ticket.deadline
        if self.is_held:
            return
        self.expires_at = min(self.expires_at, self.patient_since + ticket.policy.bounds.queue_wait_s)
        if self.is_spare:
            self.expires_at = min(self.expires_at, self.late_at)
        if self.late_at < inf:
            self.urgent_at = self.patient_since + _HURRY * max(self.late_at - self.patient_since, 0.0)


class Queue:
    """Holds waiters in order. It never decides: it asks the grant function, which may say `Hold`, and `latest`, which
    says until when a start of a ticket is of use."""

    def __init__(
        self,
        grant: Callable[[Ticket], object],
        lane_of: Callable[[Ticket], Lane],
        now: Callable[[], float],
        latest: Callable[[Ticket, float], float],
    ) -> None:
        self._grant = grant
        self._lane_of = lane_of
        self._now = now
        self._latest = latest
        self._line = Line()
        self._drains: dict[Hashable, Drain] = {}
        self._ends: LazyHeap[Waiter] = LazyHeap(lambda when, w: not w.is_gone and w.expires_at == when)
        self._classes, self._tenants = Tally(), Tally()
        self._held: Counter[str] = Counter()
        self._held_by_source: Counter[str] = Counter()
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._line)

    @property
    def waiting(self) -> int:
        """Those who wait for room."""
        return self._line.waiting

    def held(self, source: str) -> int:
        """Those of an ingress who are held for the next day's budget."""
        return self._held_by_source[source]

    def observed(self) -> QueueObserved:
        """How many wait for room and for how long the longest has, in all, by class and by tenant."""
        now = self._now()
        classes, tenants = self._classes.rows(now, len(self._classes.counts)), self._tenants.rows(now, _TENANTS_TOLD)
        return QueueObserved(self.waiting, self._classes.longest_s(now), classes, tenants)

    def blocks(self, ticket: Ticket) -> bool:
        """Whether others wait in the ticket's lane, so that it has to queue behind or before them."""
        return bool(self._line) and self._line.in_lane(self._lane_of(ticket)) > 0

    def add(self, ticket: Ticket, *, for_budget: bool = False) -> Waiter:
        """Wait in line; raises `Rejected` when the queue is full of nothing that may give way, or where it is plain
        that a request that may be shed comes too late. `for_budget`: held for the next day, as is who comes behind one
        that is held."""
        lane, now = self._lane_of(ticket), self._now()
        waiter = Waiter(ticket, lane, now)
        first = self._line.first(lane, now) if self._held else None
        if for_budget or (first is not None and first.is_held):
            self._check_held(ticket, ticket.policy.bounds.queue_requests)
            self._line.add(waiter, ticket.weight)
            self._hold(waiter)
            return waiter
        latest = self._latest(ticket, now)
        if waiter.is_spare and latest < inf:
            self._foresee(waiter, latest, now)
        self._find_place(waiter)
        if lane not in self._drains:
            self._drains[lane] = Drain(now)
        self._line.add(waiter, ticket.weight)
        self._begin(waiter, latest)
        return waiter

    def _begin(self, waiter: Waiter, latest: float) -> None:
        """Its patience begins."""
        waiter.patient_since = self._now()
        self._classes.begin(waiter.ticket.request_class.name, waiter, waiter.patient_since)
        self._tenants.begin(waiter.tenant, waiter, waiter.patient_since)
        self._await_end(waiter, latest)

    def _await_end(self, waiter: Waiter, latest: float) -> None:
        waiter.plan(latest)
        if waiter.expires_at < inf:
            self._ends.push(waiter.expires_at, waiter)

    def _foresee(self, waiter: Waiter, latest: float, now: float) -> None:
        """Refuse one that would have its turn too late, however lucky it is."""
        drain = self._drains.get(waiter.lane)
        if now > latest:
            raise Rejected(
                f"no deployment would answer within its objective: a start would be {now - latest:.2f} s too late",
                code="slo_unreachable",
                retry_after_s=max(now - latest, 1.0) if drain is None else self._retry_after_s(waiter),
            )
        if drain is None or drain.reaches(self._line.in_lane(waiter.lane), latest - now, now):
            return
        ahead = self._line.ahead(waiter, waiter.ticket.weight)
        if not drain.reaches(ahead, latest - now, now):
            raise Rejected(
                f"no deployment would have room within its objective: {ahead:.0f} wait ahead of it,"
                f" and {max(latest - now, 0.0):.2f} s are left to start",
                code="slo_unreachable",
                retry_after_s=drain.retry_after_s(ahead, latest - now, now),
            )

    def _retry_after_s(self, waiter: Waiter) -> float:
        """When the line in which it waits, or would, has been worked off as it moves now."""
        drain = self._drains.get(waiter.lane)
        if drain is None:
            return 1.0
        return drain.retry_after_s(self._line.ahead(waiter, waiter.ticket.weight), 0.0, self._now())

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
        ticket = waiter.ticket
        self._line.hold(waiter, is_held=True)
        if ticket.held_since is None:
            ticket.held_since = self._now()
        self._count_held(waiter, 1)
        self._await_end(waiter, inf)

    def _release(self, waiter: Waiter) -> None:
        """There is a budget, but no room: its patience begins."""
        self._line.hold(waiter, is_held=False)
        self._count_held(waiter, -1)
        self._begin(waiter, self._latest(waiter.ticket, self._now()))

    def _count_held(self, waiter: Waiter, change: int) -> None:
        ticket = waiter.ticket
        self._held[ticket.request_class.name] += change
        self._held_by_source[ticket.request.source] += change

    def turn_away(self) -> None:
        """The router is shutting down: who is held, now or later, is told so at once."""
        self._is_closing = True
        for waiter in [w for w in self._line if isinstance(w, Waiter) and w.is_held]:
            self.remove(waiter)
            _refuse(waiter, _closing())

    def _find_place(self, waiter: Waiter) -> None:
        """Push out whoever has to give way, where there is no place for one more."""
        line, bounds = self._line, waiter.ticket.policy.bounds
        own = bounds.tenant_queue_requests
        if own < bounds.queue_requests and line.of_tenant[waiter.tenant] >= own:
            last = line.own_victim(waiter)
            if last is None:
                raise Rejected(
                    f"its tenant has {own} requests in the queue, as many as the policy allows",
                    code="tenant_queue_full",
                    retry_after_s=self._retry_after_s(waiter),
                )
        elif line.waiting >= bounds.queue_requests:
            last = line.victim(waiter, waiter.ticket.weight)
            if last is None:
                raise Rejected("the queue is full", code="queue_full", retry_after_s=self._retry_after_s(waiter))
        else:
            return
        assert isinstance(last, Waiter)
        error = Evicted("pushed out of a full queue by another request", retry_after_s=self._retry_after_s(last))
        self.remove(last)
        _refuse(last, error)

    def remove(self, waiter: Waiter) -> None:
        """Leave the line without an answer; doing so twice is harmless."""
        if not self._line.remove(waiter):
            return
        if waiter.is_held:
            self._count_held(waiter, -1)
        else:
            self._classes.end(waiter.ticket.request_class.name, waiter)
            self._tenants.end(waiter.tenant, waiter)
        if not self._line.in_lane(waiter.lane):
            self._drains.pop(waiter.lane, None)

    def pump(self) -> None:
        """Grant what can be granted, the most urgent of all lanes first; a lane that nothing can take is left."""
        if self._line:
            self._line.offer(self._settle, self._now())

    def _settle(self, waiter: Entry) -> bool:
        """Try one waiter; false if it has to go on waiting."""
        assert isinstance(waiter, Waiter)
        if waiter.granted.done():
            self.remove(waiter)
            return True
        if self._is_overdue(waiter, self._now()):
            return True
        try:
            result = self._grant(waiter.ticket)
        except Exception as error:  # one waiter's trouble is its own
            self.remove(waiter)
            _refuse(waiter, error)
            return True
        if isinstance(result, Hold):
            return self._stays(waiter, result)
        view = waiter.ticket.view
        self._line.charge(waiter, 0.0 if view is None else view.work_s)
        if (drain := self._drains.get(waiter.lane)) is not None:
            drain.on_granted(self._now())
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
            self._classes.end(waiter.ticket.request_class.name, waiter)
            self._tenants.end(waiter.tenant, waiter)
            self._hold(waiter)
        return waiter.ticket.kept is not None and self._steps_aside(waiter)

    def _steps_aside(self, waiter: Waiter) -> bool:
        """Who is kept for a cheaper lane is in nobody's way; true if it was, and stands elsewhere now."""
        old, new = waiter.lane, self._lane_of(waiter.ticket)
        if new != old:
            self._line.move(waiter, new, waiter.ticket.weight)
            if not self._line.in_lane(old):
                self._drains.pop(old, None)
        return new != old

    def expire(self) -> None:
        """Answer at once what can no longer be in time: past its deadline or its patience, or sheddable and past the
        last moment at which a start is of use."""
        now = self._now()
        while (first := self._ends.least()) is not None and first[0] <= now:
            self._is_overdue(first[1], now)
        self._line.forget()

    def _is_overdue(self, waiter: Waiter, now: float) -> bool:
        """Whether it has waited in vain, which it is told. Where it may be shed, a start may have come to be of use for
        longer since it was last asked."""
        if now < waiter.expires_at:
            return False
        ticket = waiter.ticket
        error: RouterError
        if ticket.deadline is not None and now >= ticket.deadline:
            error = Expired("the deadline passed while it waited for a deployment with room")
        elif now >= waiter.patient_since + ticket.policy.bounds.queue_wait_s:
            error = Rejected(
                "it waited as long as the policy allows",
                code="queue_timeout",
                retry_after_s=self._retry_after_s(waiter),
            )
        else:
            latest = self._latest(ticket, now)
            if latest > now and ticket.due() > now:
                self._await_end(waiter, latest)
                return False
            error = Rejected(
                "no deployment had room while it could still be within its objective",
                code="slo_unreachable",
                retry_after_s=self._retry_after_s(waiter),
            )
        self.remove(waiter)
        _refuse(waiter, error)
        return True


def _closing() -> Rejected:
    return Rejected("the router is shutting down", code="draining", retry_after_s=1.0)


def _refuse(waiter: Waiter, error: Exception) -> None:
    if not waiter.granted.done():
        waiter.granted.set_exception(error)
