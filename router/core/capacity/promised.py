"""Which time per output token must a deployment keep?

The tightest that is promised to those who lately asked and whom it may serve: what is promised to nobody else's
requests there, or to a class of which nothing has come for minutes, is no reason to let in fewer. Nor is what a call
alone would miss at the usual speed: no limit keeps that, and one that tried would shut out everybody else. Where
nothing that is promised can be kept, a call may take twice as long as it would alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from router.core.fleet import Member
from router.domain.deployment import Deployment, DeploymentName
from router.domain.slo import RequestClass
from router.routing.filters import serves

_ACTIVE_S = 300.0
_FULL = 2.0
"""Times the pace of a call alone: on the measured servers that is a batch of some hundred, at most of their rate."""


class Promised:
    """One for each policy in force. Until a request comes, all classes count."""

    def __init__(self, classes: Iterable[RequestClass]) -> None:
        self._classes = tuple(classes)
        self._seen: dict[str, float] = {}
        self._by_name: dict[DeploymentName, tuple[Deployment, tuple[RequestClass, ...]]] = {}

    def see(self, request_class: RequestClass, *, now: float) -> None:
        """A request of the class came."""
        self._seen[request_class.name] = now

    def tpot_s(self, member: Member, *, now: float) -> float | None:
        """Seconds a token at most; `None` where any pace will do."""
        lately = now - _ACTIVE_S
        classes = self._those_it_serves(member.deployment)
        active = [c for c in classes if self._seen.get(c.name, -inf) >= lately] or classes
        promised = [c.objectives.tpot.threshold_s for c in active if c.objectives.tpot is not None]
        if not promised:
            return None
        alone_s = member.latency.alone_s
        return min((tpot_s for tpot_s in promised if tpot_s > alone_s), default=_FULL * alone_s)

    def _those_it_serves(self, deployment: Deployment) -> tuple[RequestClass, ...]:
        found = self._by_name.get(deployment.name)
        if found is None or found[0] is not deployment:
            those = tuple(c for c in self._classes if serves(c, deployment))
            found = self._by_name[deployment.name] = deployment, those
        return found[1]
