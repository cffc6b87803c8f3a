"""What is documented of each technique's effect. Figures of others, on other machines: where learning starts.

A factor is what a time is multiplied by: (best, expected, worst). Best is what is documented for one sequence or for
the setting it was announced with; worst is no gain, as with batches so full that arithmetic and not memory binds. Where
nothing is documented for a factor it is `None`, and no prediction is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from router.learning.variants.catalogue import Entry, Fact


class Factor(NamedTuple):
    """Of a time, or of the price of a token."""

    best: float
    expected: float
    worst: float


SAME: Final = Factor(1.0, 1.0, 1.0)


class Kind(StrEnum):
    """The first words of what a deployment's `optimizations` call it."""

    QUANTIZATION = "quantization"
    SPECULATIVE_DECODING = "speculative-decoding"
    COMPILATION = "compilation"


class Effect(Struct, frozen=True):
    """`name` is what `optimizations` of a deployment calls it. `ttft`, `tpot`, `cost`: of time to first token, time per
    output token and USD per output token on an instance that is paid by the hour and in full use."""

    name: str
    kind: Kind
    needs: Fact
    ttft: Factor | None
    tpot: Factor | None
    cost: Factor | None
    quality: str
    source: str
    unknown: tuple[str, ...]


_AWS: Final = "docs.aws.amazon.com/sagemaker/latest/dg/model-optimize.html"

EFFECTS: Final = (
    Effect(
        name="quantization-awq",
        kind=Kind.QUANTIZATION,
        needs=Fact.QUANTIZATION,
        ttft=SAME,
        tpot=Factor(1 / 2.6, (1 / 2.6) ** 0.5, 1.0),
        cost=Factor(1 / 2.6, (1 / 2.6) ** 0.5, 1.0),
        quality="its base's, with wider uncertainty, until answers are judged",
        source="FastChat docs/awq.md: 2.1 to 2.6 times the tokens a second of FP16, one sequence, RTX A6000; "
        "expected is the geometric middle of that and no gain",
        unknown=(
            "how much of the gain is left with batches as full as yours",
            "whether the weights, about a third as large, fit a smaller instance",
            "what it does to the quality of your answers",
        ),
    ),
    Effect(
        name="speculative-decoding",
        kind=Kind.SPECULATIVE_DECODING,
        needs=Fact.SPECULATIVE_DECODING,
        ttft=SAME,
        tpot=Factor(0.5, 0.75, 1.0),
        cost=Factor(0.5, 0.75, 1.0),
        quality="as its base: what the draft proposes is checked by the model",
        source="AWS Machine Learning Blog, inference optimization toolkit, part 1 (2024): up to twice the tokens a "
        "second of Llama 3 70B on ml.p5.48xlarge; up to 25 % less latency for up to 8 calls at once (Qualtrics)",
        unknown=("which share of the draft's tokens your prompts accept", "how it fares with full batches"),
    ),
    Effect(
        name="compilation-neuron",
        kind=Kind.COMPILATION,
        needs=Fact.PRE_COMPILED,
        ttft=None,
        tpot=None,
        cost=None,
        quality=f"as its base: no loss of accuracy ({_AWS})",
        source=f"{_AWS}: an instance is deployed and added sooner, since nothing is compiled just in time; no figure "
        "for a running one",
        unknown=("times to first token and per token on Inferentia2 or Trainium", "the price of that instance to you"),
    ),
)


def effect(name: str) -> Effect | None:
    """By its name, or by its kind."""
    return next((t for t in EFFECTS if name in (t.name, t.kind)), None)


def is_done(kind: Kind, optimizations: Iterable[str]) -> bool:
    """Whether what a deployment says was done to it is of this kind."""
    return any(one == kind or one.startswith(f"{kind}-") for one in optimizations)


def offered(entry: Entry, of: Effect) -> str | None:
    """How a model can be had with a technique; `None`: not at all, as far as is known."""
    if of.needs is Fact.PRE_COMPILED:
        return "compiled already" if entry.says(Fact.PRE_COMPILED) else None
    if not entry.says(of.needs):
        return None
    if entry.says(Fact.PRE_OPTIMIZED):
        return "optimised already, or by a job"
    if of.needs is Fact.SPECULATIVE_DECODING:
        return "with SageMaker's draft model" if entry.says(Fact.DRAFT_MODEL) else "with a draft model of your own"
    return "by a job"
