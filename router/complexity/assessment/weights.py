"""Which single features push a prompt towards the large model: the weights of the linear member.

It is one of three members that share the decision; trees and n-grams come on top, and a weight among features that go
together says little alone. What it tells is the direction.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from router.complexity.features import NAMES
from router.complexity.trained import RARITY, TrainedEstimator
from router.domain.deployment import Tier

_SPELLED: Final = {
    "share_": "share of words: {}",
    "count_": "number of words: {}",
    "chars_": "share of characters: {}",
    "asks_": "asks to {}",
    "says_": "says “{}”",
    "opens_": "opens with “{}”",
    "stem_ends_": "question ends with “{}”",
    "log_": "{}, logarithm",
}
_LISTS: Final = {
    "wh": "question words",
    "function": "function words (the, of, and)",
    "choice_zone": "answer choices, share of the text",
    "choice_digits": "digits in the answer choices",
    "stem_overlap": "words that question and choices share",
    "choice_repeats": "words that the choices repeat",
}
"""Names that say too little on their own."""


class Weight(Struct, frozen=True):
    """What one standard deviation more of a feature adds to the log odds of quality, of small and of large."""

    feature: str
    small: float
    large: float

    @property
    def towards_large(self) -> float:
        """How much more large gains by it than small."""
        return self.large - self.small


def top_weights(estimator: TrainedEstimator, *, small: str, large: str, most: int) -> tuple[Weight, ...]:
    """The features whose weights differ most between the two models, the strongest push to large first; empty where
    rules stand in for a head."""
    of_small, of_large = estimator.weights(small, Tier.SMALL), estimator.weights(large, Tier.LARGE)
    if of_small is None or of_large is None:
        return ()
    push = of_large - of_small
    kept = sorted(np.argsort(-np.abs(push), kind="stable")[:most].tolist(), key=lambda index: -push[index])
    names = (*NAMES, *RARITY)
    return tuple(Weight(spelled(names[at]), float(of_small[at]), float(of_large[at])) for at in kept if push[at])


def spelled(name: str) -> str:
    """A feature's name in words."""
    for beginning, form in _SPELLED.items():
        if name.startswith(beginning):
            rest = name.removeprefix(beginning)
            return form.format(_LISTS.get(rest) or rest.replace("_", " ").strip() or rest)
    return _LISTS.get(name) or name.replace("_", " ")
