"""What carrying out a plan would change, given what has been bought already.

Counted by model and commitment: what the plan holds now (units by the hour count while their hours last) against what
is there, whoever bought it. What is missing is bought; of what is too many, only units without a commitment go, and
only those whose name says that a plan bought them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from router.backends.aws.control.provisioned import Commitment as Bought
from router.backends.aws.control.provisioned import Order, Provisioned
from router.sim.capacity.days import WEEK
from router.sim.capacity.offers import Commitment
from router.sim.capacity.plan import Plan, Purchase

HOURS_A_MONTH = 730.0
PREFIX = "router-"
TERM_HOURS = {Commitment.ONE_MONTH: HOURS_A_MONTH, Commitment.SIX_MONTHS: 6 * HOURS_A_MONTH}
_BOUGHT = {Commitment.NONE: None, Commitment.ONE_MONTH: Bought.ONE_MONTH, Commitment.SIX_MONTHS: Bought.SIX_MONTHS}


class Creation(Struct, frozen=True):
    """Units to buy; `hourly_usd` for all of them."""

    order: Order
    commitment: Commitment
    hourly_usd: float

    @property
    def term_usd(self) -> float | None:
        """What the commitment obliges to; `None` without one."""
        hours = TERM_HOURS.get(self.commitment)
        return None if hours is None else hours * self.hourly_usd


class Changes(Struct, frozen=True):
    """`kept` counts for the plan and stays; `left` is too many by the plan and is not ours to give back."""

    creations: tuple[Creation, ...]
    deletions: tuple[Provisioned, ...]
    kept: tuple[Provisioned, ...]
    left: tuple[Provisioned, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not self.creations and not self.deletions


def changes(plan: Plan, digest: str, model: str, there: Sequence[Provisioned], *, at: datetime) -> Changes:
    """`model`: what Bedrock is asked for; `there`: all that has been bought; `at`: now, in the plan's timezone;
    `digest` tells the plan from others."""
    ours = [one for one in there if model in (one.model, one.model_arn) and one.status != "Failed"]
    creations: list[Creation] = []
    deletions: list[Provisioned] = []
    left: list[Provisioned] = []
    for commitment in Commitment:
        bought = _BOUGHT[commitment]
        have = [one for one in ours if one.commitment == (None if bought is None else bought.value)]
        wanted = [one for one in plan.purchases if one.commitment is commitment and _holds(one, at)]
        short = sum(one.units for one in wanted) - sum(one.units for one in have)
        if short > 0:
            creations.append(_creation(short, wanted, model, f"{digest} {sorted(one.arn for one in have)}", at))
        elif short < 0:
            gone, stay = _surplus(have, -short)
            deletions += gone
            left += stay
    kept = tuple(one for one in ours if one not in deletions and one not in left)
    return Changes(tuple(creations), tuple(deletions), kept, tuple(left))


def _holds(purchase: Purchase, at: datetime) -> bool:
    return purchase.holds(WEEK[at.weekday()], at.hour)


def _creation(units: int, wanted: Sequence[Purchase], model: str, known: str, at: datetime) -> Creation:
    """The token is the same when the same is tried again in the same hour, so that it buys nothing twice."""
    commitment = wanted[0].commitment
    token = hashlib.sha256(f"{known} {commitment} {units} {at:%Y-%m-%d %H}".encode()).hexdigest()[:32]
    name = f"{PREFIX}{commitment.value}-{token[:10]}"
    each = sum(one.units * one.hourly_usd for one in wanted) / sum(one.units for one in wanted)
    return Creation(Order(name, model, units, token, _BOUGHT[commitment]), commitment, units * each)


def _surplus(have: Sequence[Provisioned], units: int) -> tuple[list[Provisioned], list[Provisioned]]:
    """Those to give back, which are no more units than are too many, and those that are too many all the same."""
    gone = list(_fitting(sorted(have, key=lambda one: -one.units), units))
    missing = units - sum(one.units for one in gone)
    return gone, [one for one in have if one not in gone] if missing else []


def _fitting(have: Sequence[Provisioned], units: int) -> Iterator[Provisioned]:
    for one in have:
        if one.commitment is None and one.name.startswith(PREFIX) and one.units <= units:
            units -= one.units
            yield one
