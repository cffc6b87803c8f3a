"""What does a floor that may give ask, where nobody can answer as well?

As much as the best that could take the request is able to: what is beyond that is nobody's to give, and no reason to
refuse. Who answers stays as it was, for all scores move alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from router.domain.decision import Candidate
from router.domain.deployment import DeploymentName
from router.domain.slo import FloorUnderOverload
from router.domain.view import DeploymentView
from router.routing.need import Need


def within_reach(
    candidates: list[Candidate], seen: Iterable[DeploymentView], unable: Collection[DeploymentName], need: Need
) -> list[Candidate]:
    """The candidates, measured against the best of those `seen` that are not `unable` to serve: who is only full now is
    still to be had."""
    floor = need.request_class.floor
    assert floor is not None
    best = max((v.p_adequate for v in seen if v.deployment.name not in unable), default=floor.ratio)
    if best >= floor.ratio:
        return candidates
    more = need.floor_price * (floor.ratio - best)
    return [replace(c, score=c.score + more, terms=replace(c.terms, floor=c.terms.floor + more)) for c in candidates]


def may_give(need: Need) -> bool:
    """Whether the floor is one that may give, of a class that may be refused."""
    floor = need.request_class.floor
    if floor is None or not need.floor_price or not need.request_class.sheddable:
        return False
    return floor.under_overload is FloorUnderOverload.DEGRADE
