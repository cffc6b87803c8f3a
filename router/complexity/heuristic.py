"""The estimator that works untrained: hand-set weights on structural features, monotone, the same for every model of a
tier.

Difficulty is a sum of non-negative terms, each of a feature that makes a task harder for a small model more than for a
large one: how much there is to read (log scale), how much is to be computed or derived, how many conditions must hold
at once, how far the conversation has come, how unlike English prose it is. Sizes were set so that a one-line question
comes out near 0, a paragraph of word problem near 1 and a page with constraints and code near 2.5; signs follow what
the published routers find (RouteLLM, arXiv 2406.18665, section 5; Hybrid LLM, arXiv 2404.14618): length, mathematics
and multi-step reasoning are where small models lose most. No outcome was fitted.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from router.complexity.estimator import Scored
from router.complexity.features import NAMES, POSITION, Row, measure, use_case
from router.complexity.hashing import scan
from router.domain.deployment import Tier
from router.domain.request import Request
from router.stats.normal import sigmoid

WEIGHTS: Final[dict[str, float]] = {
    "log_words": 0.16,
    "log_earlier_chars": 0.04,
    "log_system_chars": 0.03,
    "log_turns": 0.10,
    "log_tools": 0.25,
    "log_images": 0.30,
    "json_output": 0.10,
    "count_mathematics": 0.28,
    "log_numbers": 0.10,
    "chars_operator": 8.0,
    "chars_formula": 12.0,
    "count_code": 0.22,
    "chars_bracket": 3.0,
    "says_```": 0.20,
    "count_reasoning": 0.22,
    "count_constraint": 0.14,
    "count_negation": 0.12,
    "count_logic": 0.10,
    "count_legal": 0.12,
    "very_long_words": 2.0,
    "chars_greek_cyrillic": 0.6,
    "chars_semitic": 0.8,
    "chars_cjk": 0.8,
}
"""Difficulty, in log odds that a small model fails, per unit of each feature. All are >= 0: difficulty is monotone."""
ODDS: Final[dict[Tier, tuple[float, float]]] = {Tier.SMALL: (2.3, 1.0), Tier.LARGE: (3.2, 0.5)}
"""Log odds of an adequate answer at difficulty 0, and what one unit of difficulty takes away, by tier."""
DOUBT: Final = 1.0
"""The lower bound is this many units of log odds below the estimate: nothing here was measured."""

_WEIGHTS = np.zeros(len(NAMES))
_WEIGHTS[[POSITION[name] for name in WEIGHTS]] = list(WEIGHTS.values())


def difficulty(row: Row) -> float:
    """Sum of the weighted features, >= 0."""
    return float(_WEIGHTS @ row[: len(NAMES)])


def chances(hard: float, shift: float = 0.0) -> dict[Tier, float]:
    """P(adequate) of each tier at a difficulty, moved by `shift` log odds."""
    return {tier: sigmoid(start - slope * hard + shift) for tier, (start, slope) in ODDS.items()}


class HeuristicEstimator:
    """Estimates by tier alone; no model is known by name."""

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        row = measure(request.prompt, scan(request.prompt.last_user))
        hard = difficulty(row)
        tiers = chances(hard)
        return Scored(
            complexity=1.0 - tiers[Tier.SMALL],
            use_case=use_case(request.prompt, row),
            estimates={},
            tiers=tiers,
            features=(*((name, float(row[POSITION[name]])) for name in WEIGHTS if row[POSITION[name]]),),
            tier_lows=chances(hard, -DOUBT),
            novelty=1.0,
        )
