"""The seam between complexity and everything that uses it, and when two model names mean the same model.

Providers spell one model many ways: `meta-llama/llama-3.1-8b-instruct`, `us.meta.llama3-1-8b-instruct-v1:0`,
`llama-3.1-8b`. Two names are the same model when their words agree after the owner, the punctuation and the words that
say nothing of capability (instruct, chat, it ...) are gone. A fine-tuned variant, whose name adds words to its base
model's, inherits from the longest base that it contains; never from another size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from router.domain.deployment import Tier
from router.domain.request import Request
from router.stats.normal import logit


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

    def ease(self) -> float:
        """How easy the request is for all alike: the mean log odds of the models, or of the tiers where no model is
        known."""
        known = self.estimates or self.tiers
        return sum(map(logit, known.values())) / len(known)


class Estimator(Protocol):
    """Predicts; never chooses. The same request gives the same answer."""

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        ...


@runtime_checkable
class Digested(Protocol):
    """An estimator out of an artefact: `digest` names its bytes."""

    @property
    def digest(self) -> str: ...


def digest_of(estimator: Estimator) -> str:
    """Which artefact an estimator comes from; empty for one that was not fitted."""
    return estimator.digest if isinstance(estimator, Digested) else ""


_NOISE: Final = frozenset(
    ("instruct", "chat", "it", "preview", "latest", "hf", "fp8", "fp16", "awq", "gptq", "gguf", "us", "eu", "global")
)
_OWNERS: Final = frozenset(("meta", "anthropic", "amazon", "mistral", "cohere", "ai21", "google", "openai", "deepseek"))
_PIECES: Final = re.compile(r"\d+x\d+b|\d+b|\d+|[a-z]+")
_SIZE: Final = re.compile(r"(\d+x)?\d+b")
_VERSION: Final = re.compile(r"-v\d+(\.\d+)*(:\d+)?$")


def words_of(name: str) -> tuple[str, ...]:
    """The telling words of a model's name, in order: family, generation, size, variant."""
    last = name.lower().rsplit("/", 1)[-1]
    head, dot, rest = last.partition(".")
    while dot and (head in _NOISE or head in _OWNERS):
        last = rest
        head, dot, rest = last.partition(".")
    return tuple(piece for piece in _PIECES.findall(_VERSION.sub("", last)) if piece not in _NOISE)


def best_match(name: str, known: Iterable[str]) -> str | None:
    """The name among `known` that means the same model, or the base model of this variant; `None` if none does.

    Only a name that states a size can be a base: `llama-3.1-8b-legal` is a llama-3.1-8b, gpt-4o is no gpt-4.
    """
    words, found = words_of(name), None
    for other in known:
        if other == name:
            return name
        base = words_of(other)
        same = words == base or (words[: len(base)] == base and _sizes(words) == _sizes(base) != frozenset())
        if same and (found is None or len(base) > len(words_of(found))):
            found = other
    return found


def lineage(name: str, bases: Mapping[str, str]) -> Iterator[str]:
    """A model, the model it was made from, the one that was made from, and so on; none of them twice."""
    seen: set[str] = set()
    following: str | None = name
    while following is not None and following not in seen:
        seen.add(following)
        yield following
        following = bases.get(following)


def _sizes(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for word in words if _SIZE.fullmatch(word))
