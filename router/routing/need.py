"""What one request needs of a deployment, gathered once per decision."""

from __future__ import annotations

from msgspec import Struct

from router.domain.request import Request
from router.domain.slo import RequestClass, WhenSpent


class Purse(Struct, frozen=True):
    """What the request's class may still pay for today. `short`: deployments whose call may cost more than what is
    left, and how much; `is_shut`: nobody that could serve the request is left. `is_spent`: nobody that is paid."""

    limit_usd: float
    spent_usd: float
    reserved_usd: float
    resets_s: float
    when_spent: WhenSpent
    short: dict[str, float]
    is_shut: bool
    is_spent: bool

    def stand(self) -> str:
        """How the budget stands, for people."""
        return (
            f"USD {self.spent_usd:.6f} spent and {self.reserved_usd:.6f} reserved of {self.limit_usd:.6f}, "
            f"{self.resets_s:.0f} s to the next day"
        )


class Need(Struct, frozen=True, gc=False):
    """The request's side of a decision.

    `waited_s` is the time since arrival, already spent from every objective; waiting for a budget does not count.
    `tried` are deployments that failed this request. `floor_price` and `usd_price` are the prices in force; the
    capacity price is part of each view.
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
    purse: Purse | None = None
    """Only for a class with a budget of the day."""
    dearness: float = 1.0
    """By how much of the capacity price the request is weighed: less for a tenant within its share."""
    room: float = 1.0
    """Share of a concurrency limit that is there for the request: less for a tenant over its share."""
