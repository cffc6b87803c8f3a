"""Row by row: what the estimator said of a prompt, and how the two models really did on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from router.complexity.estimator import Estimator, Scored
from router.complexity.evaluate import Array
from router.complexity.outcomes import Example, adequacy, graded_sources
from router.domain.deployment import Tier
from router.domain.request import Request


class Remembering:
    """An estimator that keeps what it said, so that a second look at an evaluation costs no second prediction."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self.said: list[Scored] = []

    def estimate(self, request: Request) -> Scored:
        """Score one request and remember it."""
        scored = self._estimator.estimate(request)
        self.said.append(scored)
        return scored


class Rows(Struct, frozen=True):
    """The n prompts that both models answered. Arrays are (n, 2), small first: true quality, adequacy (0 or 1),
    predicted P(adequate), expected quality, and cost in USD; `cost` is `None` unless every outcome has one. `graded`
    names the sources where truth is finer than right or wrong."""

    examples: tuple[Example, ...]
    quality: Array
    adequate: Array
    p: Array
    expected: Array
    cost: Array | None
    graded: frozenset[str] = frozenset()

    @property
    def gain(self) -> Array:
        """True quality of large minus small, (n,)."""
        return np.subtract(self.quality[:, 1], self.quality[:, 0])

    @property
    def score(self) -> Array:
        """Expected quality of large minus small, (n,): what the router goes by."""
        return np.subtract(self.expected[:, 1], self.expected[:, 0])


def rows_of(examples: Sequence[Example], said: Sequence[Scored], *, small: str, large: str) -> Rows:
    """Join what was said to the outcomes. `said` has one entry for each example that both models answered, in order,
    as `evaluate` asks for them."""
    pairs = ((small, Tier.SMALL), (large, Tier.LARGE))
    judged = zip(examples, adequacy(examples, large), strict=True)
    chosen = [(example, verdict) for example, verdict in judged if {small, large} <= verdict.keys()]
    costs = [[example.outcomes[model].cost_usd for model, _ in pairs] for example, _ in chosen]
    priced = all(cost is not None for row in costs for cost in row)
    both = list(zip(chosen, said, strict=True))
    return Rows(
        examples=tuple(example for example, _ in chosen),
        quality=np.array([[example.outcomes[model].quality for model, _ in pairs] for example, _ in chosen]),
        adequate=np.array([[float(verdict[model]) for model, _ in pairs] for _, verdict in chosen]),
        p=np.array([[scored.of(*pair) for pair in pairs] for _, scored in both]),
        expected=np.array([[scored.quality(*pair) for pair in pairs] for _, scored in both]),
        cost=np.array(costs, np.float64) if priced else None,
        graded=graded_sources(examples) & {example.source for example, _ in chosen},
    )
