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
    """

    complexity: float
    use_case: str
    estimates: Mapping[str, float]
    tiers: Mapping[Tier, float]
    features: tuple[tuple[str, float], ...] = ()

    def of(self, model: str, tier: Tier) -> float:
        """P(adequate) of a model, or of its tier where the model is unknown."""
        known = self.estimates.get(model)
        return self.tiers[tier] if known is None else known


class Estimator(Protocol):
    """Predicts; never chooses. The same request gives the same answer."""

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        ...
