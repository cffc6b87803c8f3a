"""After a failure: who comes next in the order that the class gives?"""

from __future__ import annotations

from collections.abc import Sequence

from router.domain.decision import Exclusion
from router.domain.deployment import Deployment
from router.domain.view import DeploymentView

LATER = "later_fallback"


def rank(order: Sequence[str], deployment: Deployment) -> int:
    """Place in the order, by name, group, model or tier, from 0; past its end for one that it does not name."""
    names = (deployment.name, deployment.group, deployment.model, deployment.tier.value)
    return next((place for place, name in enumerate(order) if name in names), len(order))


def earliest(order: Sequence[str], views: Sequence[DeploymentView]) -> tuple[list[int], list[Exclusion]]:
    """Which of the views stand earliest in the order, by index, and why the others do not come yet. Not empty where
    there are views."""
    ranks = [rank(order, view.deployment) for view in views]
    first = min(ranks, default=0)
    detail = f"{order[first]} comes first in the fallback order" if first < len(order) else ""
    later = [
        Exclusion(view.deployment.name, LATER, detail)
        for view, place in zip(views, ranks, strict=True)
        if place > first
    ]
    return [index for index, place in enumerate(ranks) if place == first], later
