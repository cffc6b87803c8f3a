"""The seam between complexity and everything that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from router.domain.deployment import Tier
from router.domain.request import Request


class Scored(Struct, frozen=True):
    """What an estimator says of one request.

    `estimates` is the calibrated P(adequate) by model name; `tiers` the same for a model nobody has measured.
    `complexity` in [0,1] is the estimate that a small model will not do. `features` are evidence: names and values.
    `lows` and `tier_lows` are lower bounds of the estimates (95 %, one-sided, and lower the more novel the prompt);
    `qualities` is the expected quality in [0,1] where truth is finer than right or wrong. Those three may be empty.
    """

    complexity: float
    use_case: str
    estimates: Mapping[str, float]
    tiers: Mapping[Tier, float]
    features: tuple[tuple[str, float], ...] = ()
    lows: Mapping[str, float] = {}
    tier_lows: Mapping[Tier, float] = {}
    qualities: Mapping[str, float] = {}
    novelty: float = 0.0
    """Share in [0,1] of what the estimator has never seen the like of, beyond what is usual; 1 trusts it least."""

    def of(self, model: str, tier: Tier) -> float:
        """P(adequate) of a model, or of its tier where the model is unknown."""
        known = self.estimates.get(model)
        return self.tiers[tier] if known is None else known

    def low(self, model: str, tier: Tier) -> float:
        """The lower bound that goes with `of`; the estimate itself where there is no bound."""
        if model in self.estimates:
            return self.lows.get(model, self.estimates[model])
        return self.tier_lows.get(tier, self.tiers[tier])

    def quality(self, model: str, tier: Tier) -> float:
        """Expected quality of a model's answer; P(adequate) where quality was never finer than that."""
        known = self.qualities.get(model)
        return self.of(model, tier) if known is None else known


class Estimator(Protocol):
    """Predicts; never chooses. The same request gives the same answer."""

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        ...
