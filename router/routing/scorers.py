"""What is one candidate worth?

`score = useful + floor - cost - capacity`, all in units of one useful answer (`core.cascade` adds to it):

* useful: P(SLO met) * P(adequate); under the goal `cost` also P(SLO met) by itself, so that being in time comes first;
* floor: floor price * (P(adequate) - floor), the duty to the promise of all;
* cost: expected dollars times the dollar price;
* capacity: the deployment's capacity price times this request's work relative to a typical one (filled in the view; a
  tenant within its share of a scarce fleet pays less of it),
  and the bid price of the reserved tokens that it would use times the dollar price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.domain.decision import Candidate, Terms
from router.domain.slo import Goal
from router.domain.view import DeploymentView
from router.routing.need import Need

Scorer = Callable[[Sequence[DeploymentView], Need], list[Candidate]]

SERVING_IN_TIME = 2.0
"""What being in time is worth under the goal `cost`, in useful answers."""
_COST = Goal.COST


def utilities(views: Sequence[DeploymentView], need: Need) -> list[Candidate]:
    """The standard score of each."""
    request_class, usd_price = need.request_class, need.usd_price
    is_cheapest, ratio, floor_price = request_class.goal is _COST, 0.0, 0.0
    if request_class.floor is not None:
        ratio, floor_price = request_class.floor.ratio, need.floor_price
    dearness, bid_price = (0.0, 0.0) if need.unlimited else (need.dearness, usd_price)
    candidates: list[Candidate] = []
    for view in views:
        p_slo, p_adequate, cost_usd = view.p_slo, view.p_adequate, view.cost_usd
        useful = p_slo * p_adequate
        if is_cheapest:
            useful += SERVING_IN_TIME * p_slo
        floor = floor_price * (p_adequate - ratio)
        cost = usd_price * cost_usd
        capacity = dearness * view.capacity_price + bid_price * view.bid_usd
        terms = Terms(
            p_slo,
            p_adequate,
            view.ttft_s,
            view.tpot_s,
            view.e2e_s,
            view.output_tokens,
            cost_usd,
            useful,
            floor,
            cost,
            capacity,
            0.0,
            view.p_adequate_low,
            view.cached_tokens,
        )
        score = useful + floor - cost - capacity
        candidates.append(Candidate(view.deployment.name, score, terms, 0.0, view.spread, view.fallen))
    return candidates


def utility(view: DeploymentView, need: Need) -> Candidate:
    """The standard score of one."""
    return utilities((view,), need)[0]
