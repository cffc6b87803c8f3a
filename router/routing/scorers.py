"""What is one candidate worth?

`score = useful + floor - cost - capacity`, all in units of one useful answer:

* useful: P(SLO met) * P(adequate); under the goal `cost` also P(SLO met) by itself, so that being in time comes first;
* floor: floor price * (P(adequate) - floor), the duty to the promise of all;
* cost: expected dollars times the dollar price;
* capacity: the deployment's capacity price times this request's work relative to a typical one (filled in the view).
"""

from __future__ import annotations

from collections.abc import Callable

from router.domain.decision import Candidate, Terms
from router.domain.slo import Goal
from router.domain.view import DeploymentView
from router.routing.need import Need

Scorer = Callable[[DeploymentView, Need], Candidate]

_SERVING_IN_TIME = 2.0


def utility(view: DeploymentView, need: Need) -> Candidate:
    """The standard score."""
    request_class = need.request_class
    useful = view.p_slo * view.p_adequate
    if request_class.goal is Goal.COST:
        useful += _SERVING_IN_TIME * view.p_slo
    floor = 0.0
    if request_class.floor is not None:
        floor = need.floor_price * (view.p_adequate - request_class.floor.ratio)
    cost = need.usd_price * view.cost_usd
    capacity = 0.0 if need.unlimited else view.capacity_price
    terms = Terms(
        view.p_slo,
        view.p_adequate,
        view.ttft_s,
        view.tpot_s,
        view.e2e_s,
        view.output_tokens,
        view.cost_usd,
        useful,
        floor,
        cost,
        capacity,
    )
    return Candidate(view.deployment.name, useful + floor - cost - capacity, terms, 0.0, view.spread)
