"""Whose quality does a variant start from, and how far may its own be off?

What speculative decoding and compilation make of a model gives the same distribution of answers: it starts with what
is believed of its base, as sure as that is. Quantisation gives nearly the same answers, or ruins them: the same belief,
with a Gaussian of its own added to the log odds. Fine-tuning and distillation are done to change the answers: such a
model starts from the estimate for its base, and nothing that was learned of the base holds for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from router.domain.aws.techniques import Technique, techniques
from router.domain.deployment import Deployment

QUANTIZATION_DOUBT = 0.25
"""Variance in log odds that quantisation adds: a standard deviation of half a log odd is 8 points at .8, which holds
what four bits cost when done well and leaves a ruined model within three. Chosen, neither measured nor tuned."""
_KEEPS_QUALITY = frozenset({Technique.QUANTIZATION, Technique.SPECULATIVE_DECODING, Technique.COMPILATION})

Descent = tuple[tuple[str, float], ...]
"""The models that a variant was made from, the nearest first, each with the variance (log odds) that lies between."""


def descents(deployments: Iterable[Deployment]) -> Mapping[str, Descent]:
    """By model, for those that start from what is believed of another."""
    made: dict[str, tuple[str, float]] = {}
    for deployment in deployments:
        done = techniques(deployment.optimizations)
        if deployment.derived_from is not None and done and done <= _KEEPS_QUALITY:
            doubt = QUANTIZATION_DOUBT if Technique.QUANTIZATION in done else 0.0
            made.setdefault(deployment.model, (deployment.derived_from, doubt))
    return {model: _ancestors(model, made) for model in made}


def _ancestors(model: str, made: Mapping[str, tuple[str, float]]) -> Descent:
    found: dict[str, float] = {}
    doubt = 0.0
    while model in made:
        model, more = made[model]
        doubt += more
        if model in found:
            break
        found[model] = doubt
    return tuple(found.items())
