"""Is it worth keeping a request back until a cheaper lane has room?

The same model is often there at several prices: paid for already (provisioned), at half price when the provider has
capacity to spare (flex), and on demand. A class may say how long its requests can be kept for a cheaper one
(`patience`), as far as their deadline allows. What is kept waits in the queue and is decided again at every heartbeat,
and whenever room may have come.

**The price of waiting** is what a second of it takes from the probability of being in time, on the best deployment that
would take the request now; that is nothing while there is much slack, and grows as it shrinks. **What it may bring** is
the difference in price, spread over the patience that is left. The request waits while the first is less than the
second, so that it climbs to the dearer lane by itself while that can still make it. A call that waits for its batch and
could only be late in it climbs too: it has not been sent, so nothing was paid. Wherever it goes then is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from router.core.fleet import Member
from router.core.ticket import Kept, Ticket
from router.core.views import Viewer, aim_of
from router.core.weigher import Weigher
from router.domain.control.capacity import LaneChanged
from router.domain.decision import Candidate, Exclusion
from router.domain.deployment import Deployment, Lane
from router.domain.events import Event
from router.domain.view import DeploymentView
from router.routing.need import Need

_LOOK_S = 1.0
_IN_TIME = 0.9
"""P(in SLO) under which nobody is kept waiting, whatever it may save."""
_FULL = frozenset({"at_limit", "no_quota"})
_OF_QUEUE_WAIT = 0.9
"""Share of the longest wait of the queue: who is kept must not be refused for it."""
_LEAST_LEFT_S = 0.1
_PROBABLY = 1.2815515655446004
"""Standard normal quantile of .9."""
_TOO_LATE = "slo_unreachable"


class Patience:
    """Keeps requests of classes that allow it for a cheaper lane."""

    def __init__(self, weigher: Weigher, viewer: Viewer) -> None:
        self._weigher, self._viewer = weigher, viewer
        self._told: list[Event] = []

    def keeps(
        self,
        ticket: Ticket,
        need: Need,
        views: Sequence[DeploymentView],
        candidates: Sequence[Candidate],
        excluded: Sequence[Exclusion],
    ) -> bool:
        """Whether the request, which somebody would take now, waits on."""
        now = need.now
        left_s = self._left_s(ticket, now)
        if left_s <= 0.0 or ticket.aim is None or ticket.tried:
            return self._goes(ticket, "slack")
        best = max(range(len(views)), key=lambda i: candidates[i].score)
        lane, usd = self._cheaper(ticket, views, views[best], excluded, now)
        if lane is None:
            return self._goes(ticket, "room")
        view = views[best]
        later = self._viewer.later(view, self._members(ticket)[view.deployment.name], ticket, after_s=_LOOK_S, now=now)
        worth = need.usd_price * usd / max(left_s, _LEAST_LEFT_S)
        lost = max(view.p_slo - later.p_slo, 0.0) / _LOOK_S
        if later.p_slo < _IN_TIME or lost >= worth:
            return self._goes(ticket, "slack")
        if ticket.kept is None:
            ticket.kept = Kept(lane, now)
        return True

    @staticmethod
    def _left_s(ticket: Ticket, now: float) -> float:
        patience = ticket.request_class.patience_s
        if patience <= 0.0 or ticket.request_class.sheddable:
            return 0.0
        since = now if ticket.kept is None else ticket.kept.since
        return min(patience, _OF_QUEUE_WAIT * ticket.policy.bounds.queue_wait_s) - (now - since)

    @staticmethod
    def _goes(ticket: Ticket, reason: str) -> bool:
        """It is not kept; `on_gone` says where to, once that is known."""
        if ticket.kept is not None:
            ticket.kept.reason = reason
        return False

    def on_gone(self, ticket: Ticket, deployment: Deployment, *, now: float) -> None:
        """A request that was kept is called there."""
        kept, ticket.kept = ticket.kept, None
        if kept is None:
            return
        lane = deployment.lane.value
        self._told.append(
            LaneChanged(
                request_class=ticket.request_class.name,
                old=kept.lane,
                new=lane,
                deployment=deployment.name,
                reason="room" if lane == kept.lane else kept.reason,
                waited_s=now - kept.since,
                slack_s=None if ticket.aim is None else ticket.aim - now,
            )
        )

    def leave_s(self, ticket: Ticket, due: float, *, now: float) -> float | None:
        """In how many seconds a request that waits for its batch should be called elsewhere to be there when it is due,
        probably; `None` where nobody else would make it."""
        members = self._weigher.scope(ticket).members
        if len(members) == 1:
            return None
        latest, aim = now, aim_of(ticket, now)
        for member in members:
            name, lane = member.deployment.name, member.deployment.lane
            if lane is Lane.BATCH or name in ticket.tried:
                continue
            view = self._viewer.view(member, ticket, aim)
            if not view.blocked:
                latest = max(latest, due - view.e2e_s * exp(_PROBABLY * member.spread.e2e_log_sigma))
        return latest - now if latest > now else None

    @staticmethod
    def climbs(ticket: Ticket, code: str, *, routable: frozenset[str], now: float) -> bool:
        """Whether a call that was never sent, because its batch lane could no longer be in time, is decided again
        elsewhere. Nothing was paid for it."""
        if code != _TOO_LATE or ticket.view is None or ticket.view.deployment.lane is not Lane.BATCH:
            return False
        ticket.tried |= {ticket.view.deployment.name}
        if not routable - ticket.tried:
            return False
        ticket.kept = Kept(Lane.BATCH.value, now if ticket.first_sent is None else ticket.first_sent)
        ticket.kept.reason = "slack"
        return True

    def told(self) -> list[Event]:
        """What is to be told since the last time."""
        events, self._told = self._told, []
        return events

    def _cheaper(
        self,
        ticket: Ticket,
        views: Sequence[DeploymentView],
        best: DeploymentView,
        excluded: Sequence[Exclusion],
        now: float,
    ) -> tuple[str | None, float]:
        """The lane, as good and not to be had now, that would save most, and how many dollars."""
        members, aim = self._members(ticket), aim_of(ticket, now)
        there = [self._viewer.view(members[e.deployment], ticket, aim) for e in excluded if e.code in _FULL]
        there += [v for v in views if v.bid_usd > 0.0 and v is not best]
        lane, most = None, 0.0
        for view in there:
            saved = best.cost_usd - view.cost_usd
            if saved > most and not view.blocked and view.p_adequate >= best.p_adequate:
                lane, most = view.deployment.lane.value, saved
        return lane, most

    def _members(self, ticket: Ticket) -> dict[str, Member]:
        return {m.deployment.name: m for m in self._weigher.scope(ticket).members}
