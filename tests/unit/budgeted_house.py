"""A class with a budget of the day, a cheap and a dear deployment, and the books of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.core.spending.spending import Paid
from router.domain.deployment import Price, Tier
from router.domain.errors import RouterError
from router.domain.slo import Budget, RequestClass, WhenSpent
from router.policy.policy import Policy
from tests.regressions.house import House, deployment

CHEAP, DEAR = Price(1.0, 1.0), Price(100.0, 100.0)
RESERVED_USD = 807e-6 + 10e-6
"""What a call of the cheap one may cost before anything was learned: the p97 of the prior and a prompt of ten."""


def home(when: WhenSpent, usd_per_day: float, *others: RequestClass, **fields: Any) -> House:
    """A class `all` with a budget, a cheap and a dear deployment."""
    bounds = fields.pop("bounds", None)
    listed = fields.pop("deployments", None) or (
        deployment("small", price=CHEAP),
        deployment("large", Tier.LARGE, price=DEAR),
    )
    budgeted = RequestClass("all", budget=Budget(usd_per_day=usd_per_day, when_spent=when), **fields)
    return House(budgeted, *others, deployments=listed, bounds=bounds)


def books(house: House, name: str = "all") -> tuple[float, float]:
    """Spent and reserved."""
    kept = house.controller.spending.books()[name]
    return kept.spent_usd, sum(kept.open.values())


async def refused(house: House, **fields: Any) -> RouterError:
    """Why a request is refused."""
    with pytest.raises(RouterError) as error:
        await house.ask("r", **fields)
    return error.value


def spend(house: House, usd: float, name: str = "all") -> None:
    """As if calls of the class had cost this much today."""
    at = asyncio.get_running_loop().time()
    house.controller.spending.recover([Paid("spent", name, usd, at)], at=at)


def edited(house: House, *classes: RequestClass) -> None:
    """Put other classes in force."""
    now = asyncio.get_running_loop().time()
    policy = Policy(f"{house.controller.policy.digest}+", classes, house.listed, house.bounds)
    house.controller.apply(policy, now=now, at=now)
