"""What was done to a model to make a variant of it, in the words of SageMaker's optimisation jobs."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Technique(StrEnum):
    """The first words of an entry of a deployment's `optimizations`, such as quantization-awq."""

    QUANTIZATION = "quantization"
    """Fewer bits a weight: nearly the same answers, sooner."""
    SPECULATIVE_DECODING = "speculative-decoding"
    """A draft model proposes, the model itself accepts or not: the same distribution of answers, sooner."""
    COMPILATION = "compilation"
    """The same computation, laid out for one kind of chip."""
    FINE_TUNING = "fine-tuning"
    """Other weights of the same shape: other answers, often shorter ones, at the same time per token."""
    DISTILLATION = "distillation"
    """As fine-tuning, with the answers of a larger model to learn from."""


OTHER_ANSWERS = frozenset({Technique.QUANTIZATION, Technique.FINE_TUNING, Technique.DISTILLATION})
"""Those after which a model does not answer as it did."""


def techniques(optimizations: Iterable[str]) -> frozenset[Technique]:
    """Those that are named; an entry that names none of them says nothing."""
    said = tuple(optimizations)
    return frozenset(t for t in Technique if any(one == t or one.startswith(f"{t}-") for one in said))
