"""Chooses a model for each prompt under a budget, and learns from what that model did.

The choice is by expected quality less the budget's price of the expected cost. A small share of the requests goes to
models that may well be better than they are believed to be. A model that fell is not chosen, but for a share of probes
that show when it has risen. The probability of each pick is known; a model that a request cannot pay for has 0.
"""

from __future__ import annotations

import math
from random import Random

from msgspec import Struct

from router.learning.belief import Belief
from router.learning.cost import CostModel
from router.slo.budget import BudgetPrice
from router.stats.normal import logit, sigmoid

_EXPLORED = 0.005
"""Share of the requests for each model that may be better than believed."""
_PLAUSIBLE = 1.0
"""Standard deviations of the belief within which it may."""
_PROBED = 0.06
"""Share for a model that fell: some probes within a hundred requests."""
_PROBE_USD = 0.25
"""Share of the budget that probes of one model may cost."""
_FIRST_TRY = 20.0
"""A model of unknown cost is taken to cost this many times the dearest before it, until it is tried."""

_LEAST_USD = 1e-9


class Case(Struct, frozen=True):
    """One prompt, lists by model: expected quality in (0,1), its mean log odds over all models, the log of the forecast
    cost in USD (empty where there is none), and the truth."""

    tokens: int
    kind: str
    quality: tuple[float, ...]
    ease: float
    forecast: tuple[float, ...]
    true_quality: tuple[float, ...]
    true_cost_usd: tuple[float, ...]


class Learner:
    """Beliefs and costs of some models, and the choice among them."""

    def __init__(self, models: int, *, has_forecast: bool, budget_usd: float) -> None:
        self.beliefs = [Belief() for _ in range(models)]
        self.costs = [CostModel(has_forecast=has_forecast) for _ in range(models)]
        self.pacer = BudgetPrice(budget_usd)

    def choose(self, case: Case, *, rng: Random) -> tuple[int, float]:
        """The model, and the probability that it was chosen with."""
        zs = [logit(p) for p in case.quality]
        shifts = [belief.shift(z, case.ease, case.kind) for belief, z in zip(self.beliefs, zs, strict=True)]
        quality = [sigmoid(z + mean) for z, (mean, _) in zip(zs, shifts, strict=True)]
        cost = self._cost_usd(case)
        price = self.pacer.offer(quality, cost)
        scores = [q - price * usd for q, usd in zip(quality, cost, strict=True)]
        cheapest = min(range(len(cost)), key=cost.__getitem__)
        payable = [i for i, usd in enumerate(cost) if i == cheapest or self.pacer.affords(usd)]
        standing = [i for i in payable if not self.beliefs[i].fallen]
        best = max(standing or payable, key=scores.__getitem__)
        hopes = [sigmoid(z + mean + _PLAUSIBLE * math.sqrt(v)) for z, (mean, v) in zip(zs, shifts, strict=True)]
        chances = {best: 1.0}
        for i in payable:
            fallen = self.beliefs[i].fallen
            if i != best and (fallen or hopes[i] - price * cost[i] > scores[best]):
                chances[i] = min(_PROBED if fallen else _EXPLORED, _PROBE_USD * self.pacer.usd / cost[i])
                chances[best] -= chances[i]
        picked = rng.choices(list(chances), list(chances.values()))[0]
        return picked, chances[picked]

    def learn(self, case: Case, model: int, quality: float, cost_usd: float) -> None:
        """The outcome of the model that was chosen."""
        self.beliefs[model].learn(logit(case.quality[model]), case.ease, case.kind, quality)
        self.costs[model].observe(case.tokens, cost_usd, _forecast(case, model))
        self.pacer.spend(cost_usd)

    def _cost_usd(self, case: Case) -> list[float]:
        cost: list[float] = []
        for i, model in enumerate(self.costs):
            if model.is_known:
                cost.append(model.expect(case.tokens, _forecast(case, i)))
            else:
                cost.append(_FIRST_TRY * max(cost, default=_LEAST_USD))
        return cost


def _forecast(case: Case, model: int) -> float:
    return case.forecast[model] if case.forecast else 0.0
