"""The static policy: where nothing tells the deployments apart any more, a fixed order by class decides.

First the order of the class's own `fallback`; where it has none, the large tier before the small one if the class has a
floor, else the cheapest call first. Of those alike, the one on which we have least in flight ourselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.control.staleness import Knowledge
from router.core.fleet import Fleet
from router.domain.decision import Candidate
from router.domain.deployment import DeploymentName, Tier
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView
from router.routing.fallback import rank

BLIND = "blind"
"""What decided, as a decision says it."""


def are_blind(fleet: Fleet, candidates: Sequence[Candidate]) -> bool:
    """Whether nothing is known any more of any that may serve."""
    return fleet.has_blind and all(
        fleet.members[DeploymentName(c.deployment)].staleness.known is Knowledge.BLIND for c in candidates
    )


def first(request_class: RequestClass, views: Sequence[DeploymentView]) -> int:
    """Index of the one that the fixed order puts first."""

    def key(index: int) -> tuple[float, float, int]:
        view = views[index]
        place = 0.0
        if request_class.fallback:
            place = float(rank(request_class.fallback, view.deployment))
        elif request_class.floor is not None:
            place = float(view.deployment.tier is not Tier.LARGE)
        cost = 0.0 if request_class.fallback or request_class.floor is not None else view.cost_usd
        return place, cost, view.load.sequences + view.load.waiting_sequences

    return min(range(len(views)), key=key)
