"""Requests of one window: whether there is one, in what order they are decided, and who is left for a later one.

**When.** Only where more came at once than there are deployments, or for who has time, *and* where some deployment is
short: it has a capacity price, or more prompt tokens wait there than one step takes. At once is each less than a window
after the one before it. Until then each may have a deployment to itself, and is decided as it comes: gathering two or
three of a stream that is no crowd made it worse (useful -.004 with an error of .004 over seven loads of the
conversation trace on two servers, -.003 to -.024 on sixteen). Who finds no room at all waits in the queue, which has an
order of its own.

**In what order.** By priority; then the shortest prompt first: of those who want the same server, most are in time if
the least work goes first. On bursts of the conversation trace (all arrivals of 2 or 6 s at once, loads x3 on two
servers and x20 on sixteen, six runs of one seed, windows from the second request on) this kept .780 useful on average;
in order of arrival it was .749, by regret (the best score less the best of another model) .767, by regret for a second
of server time .783, longest first .669. The two by regret weigh every request twice, which doubles what a decision
costs.

**Who waits.** A request with a deadline, or an end-to-end objective, and no promise of a first token is left for a
later window while prices of capacity are above what they usually are by more than it is worth to it, and while waiting
costs it nothing of P(SLO met): that is the price of its slack. It is looked at again when prices have moved. Where a
price stays up it becomes usual, and nobody waits for it to fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf

from router.core.fleet import Fleet, Member
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.core.weigher import Weigher
from router.domain.view import DeploymentView

LOOK_S = 0.1
"""From one look at who waits to the next: prices move no faster."""
_WORTH_WAITING = 0.05
"""Useful answers that lower prices must bring."""
_FREE = 0.002
"""Of P(SLO met), what a look's wait may cost."""
_SURE = 0.9
"""P(SLO met) under which nobody waits."""
_OF_TIME_LEFT = 0.2
_LONGEST_S = 5.0


class Window:
    """Orders requests that came together. One per controller."""

    def __init__(self, fleet: Fleet, weigher: Weigher, viewer: Viewer) -> None:
        self._fleet, self._weigher, self._viewer = fleet, weigher, viewer
        self._last, self._crowd = -inf, 0

    def gathers(self, ticket: Ticket, now: float) -> bool:
        """Whether a request that has just come waits for others."""
        window_s = ticket.policy.bounds.window_s
        if window_s <= 0.0:
            return False
        self._crowd = self._crowd + 1 if now - self._last < window_s else 1
        self._last = now
        members = self._fleet.members.values()
        return (self._crowd > len(members) or _has_time(ticket)) and any(map(_is_short, members))

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, nothing happens but our own decisions, all at one time: what is known of a member's load is kept from
        one to the next, until a permit is opened there."""
        self._viewer.is_still = True
        try:
            yield
        finally:
            self._viewer.is_still = False
            for member in self._fleet.members.values():
                member.standing = None

    @staticmethod
    def order(tickets: Sequence[Ticket]) -> list[Ticket]:
        """In the order in which they are decided."""
        return sorted(tickets, key=lambda t: (-t.priority, t.request.input_tokens))

    def waits(self, ticket: Ticket, *, since: float, now: float) -> bool:
        """Whether a request that has waited `since` then is left for a later window."""
        if not _has_time(ticket) or now - since > min(_LONGEST_S, _OF_TIME_LEFT * _left_s(ticket, now)):
            return False
        views, candidates, _ = self._weigher.weigh(ticket, self._weigher.need(ticket, now), observe=False)
        if not views:
            return False
        scores = [c.score for c in candidates]
        best = scores.index(max(scores))
        usual = max(score + self._above_usual(view) for score, view in zip(scores, views, strict=True))
        if usual - scores[best] <= _WORTH_WAITING:
            return False
        view = views[best]
        later = self._viewer.later(view, self._member(view), ticket, after_s=LOOK_S, now=now)
        return later.p_slo >= max(view.p_slo - _FREE, _SURE)

    def _above_usual(self, view: DeploymentView) -> float:
        """What a deployment's price of capacity costs the request more than it usually would."""
        member = self._member(view)
        typical = member.typical_work.mean
        return member.price.above_usual * (view.work_s / typical if typical > 0.0 else 1.0)

    def _member(self, view: DeploymentView) -> Member:
        return self._fleet.members[view.deployment.name]


def _is_short(member: Member) -> bool:
    return member.price.in_force > 0.0 or member.account.waiting_tokens > member.latency.prior.step_token_budget


def _has_time(ticket: Ticket) -> bool:
    objectives = ticket.request_class.objectives
    return objectives.ttft is None and (ticket.aim is not None or objectives.e2e is not None)


def _left_s(ticket: Ticket, now: float) -> float:
    e2e = ticket.request_class.objectives.e2e
    left = inf if e2e is None else ticket.began + e2e.threshold_s - now
    return left if ticket.aim is None else min(left, ticket.aim - now)
