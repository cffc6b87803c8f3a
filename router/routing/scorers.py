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

from collections.abc import Callable

from router.domain.decision import Candidate, Terms
from router.domain.slo import Goal
from router.domain.view import DeploymentView
from router.routing.need import Need

Scorer = Callable[[DeploymentView, Need], Candidate]

SERVING_IN_TIME = 2.0
"""What being in time is worth under the goal `cost`, in useful answers."""
_COST = Goal.COST


def utility(view: DeploymentView, need: Need) -> Candidate:
    """The standard score."""
    request_class = need.request_class
    p_slo, p_adequate, cost_usd = view.p_slo, view.p_adequate, view.cost_usd
    useful = p_slo * p_adequate
    if request_class.goal is _COST:
        useful += SERVING_IN_TIME * p_slo
    floor = 0.0
    if request_class.floor is not None:
        floor = need.floor_price * (p_adequate - request_class.floor.ratio)
    cost = need.usd_price * cost_usd
    capacity = 0.0 if need.unlimited else need.dearness * view.capacity_price + need.usd_price * view.bid_usd
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
    return Candidate(view.deployment.name, useful + floor - cost - capacity, terms, 0.0, view.spread, view.fallen)
