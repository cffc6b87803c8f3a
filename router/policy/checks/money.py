"""Budgets against prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.domain.deployment import Price
from router.domain.slo import RequestClass
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Policy
from router.routing.filters import serves

TYPICAL_TOKENS = (500, 150)
"""Input and output tokens of a middling call: between a label and a summary."""


def check_budgets(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """Budgets that no call, or no usual call, fits into at the cheapest deployment that may serve."""
    for request_class in policy.classes:
        prices = [d.price for d in policy.deployments if serves(request_class, d)]
        yield _check_mean(request_class, prices, places)
        for field in ("usd_per_request", "usd_per_day"):
            bound: float | None = getattr(request_class.budget, field)
            if bound is None:
                continue
            if (least := min((p.cost_usd(1, 1) for p in prices), default=0.0)) > bound:
                message = f"not one call fits: one token in and one out cost {_usd(least)} at the cheapest deployment"
                yield places.warn("budget_below_any_call", request_class.name, ("budget", field), message)
            elif (usual := min((p.cost_usd(*TYPICAL_TOKENS) for p in prices), default=0.0)) > bound:
                message = f"few calls of `{request_class.name}` fit: {TYPICAL_TOKENS[0]} tokens in and "
                message += f"{TYPICAL_TOKENS[1]} out cost {_usd(usual)} at the cheapest deployment"
                yield places.warn("budget_below_usual_call", request_class.name, ("budget", field), message)


def _check_mean(request_class: RequestClass, prices: Sequence[Price], places: Places) -> Problem | None:
    """A mean that nothing can be steered to: below what the cheapest costs, or with nobody to choose from."""
    mean, name = request_class.budget.mean_usd_per_request, request_class.name
    if mean is None:
        return None
    here = ("budget", "mean_usd_per_request")
    usual = [p.cost_usd(*TYPICAL_TOKENS) for p in prices]
    if min(usual, default=0.0) > mean:
        message = f"the mean of `{name}` will be above it: {TYPICAL_TOKENS[0]} tokens in and {TYPICAL_TOKENS[1]} out "
        message += f"cost {_usd(min(usual))} at the cheapest deployment"
        return places.warn("budget_below_usual_call", name, here, message)
    if usual and min(usual) == max(usual):
        message = f"it changes nothing: whoever may serve `{name}` costs the same"
        return places.warn("mean_budget_unused", name, here, message, key=True)
    return None


def _usd(dollars: float) -> str:
    return f"{dollars:.3g} USD"
