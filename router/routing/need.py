"""What one request needs of a deployment, gathered once per decision."""

from __future__ import annotations

from msgspec import Struct

from router.domain.request import Request
from router.domain.slo import RequestClass


class Need(Struct, frozen=True, gc=False):
    """The request's side of a decision.

    `waited_s` is the time since arrival, already spent from every objective. `tried` are deployments that failed this
    request. `floor_price` and `usd_price` are the prices in force; the capacity price is part of each view.
    """

    request: Request
    request_class: RequestClass
    now: float
    waited_s: float
    floor_price: float = 0.0
    usd_price: float = 0.0
    tried: frozenset[str] = frozenset()
    unlimited: bool = False
    """Limits and quotas do not hold: the baselines have none."""
