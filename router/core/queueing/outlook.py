"""Until when is a start of any use to a request?"""

from __future__ import annotations

from math import exp, inf

from router.core.fleet import Member
from router.core.ticket import Ticket
from router.core.views import Viewer, aim_of
from router.core.weigher import Weigher
from router.domain.view import DeploymentView

_LUCKY = -1.2815515655446004
"""Standard normal quantile of .1: what is told too late would have had to be luckier than that."""


class Outlook:
    """Looks at the deployments as they are now; changes nothing."""

    def __init__(self, weigher: Weigher, viewer: Viewer) -> None:
        self._weigher, self._viewer = weigher, viewer

    def __call__(self, ticket: Ticket, now: float) -> float:
        """The last moment at which a call of the request that is lucky is still within its objectives and its deadline
        on the best deployment that may serve it; infinite where nothing is promised, or none is up to say. One that is
        ill or throttled may be back at any time and is as good as new."""
        objectives = ticket.request_class.objectives
        if objectives.ttft is None and objectives.e2e is None and ticket.aim is None:
            return inf
        latest, aim = -inf, aim_of(ticket, now)
        for member in self._weigher.scope(ticket).members:
            if member.deployment.name in ticket.tried:
                continue
            view = self._viewer.view(member, ticket, aim)
            if view.blocked:
                return inf
            latest = max(latest, _latest(member, view, ticket))
        return inf if latest == -inf else latest


def _latest(member: Member, view: DeploymentView, ticket: Ticket) -> float:
    objectives, spread = ticket.request_class.objectives, member.spread
    whole_s = view.e2e_s * exp(_LUCKY * spread.e2e_log_sigma)
    latest = inf if ticket.aim is None else ticket.aim - whole_s
    if objectives.ttft is not None:
        first_s = view.ttft_s * exp(min(spread.ttft_log_mean, 0.0) + _LUCKY * spread.ttft_log_sigma)
        latest = min(latest, ticket.began + objectives.ttft.threshold_s - first_s)
    if objectives.e2e is not None:
        latest = min(latest, ticket.began + objectives.e2e.threshold_s - whole_s)
    return latest
