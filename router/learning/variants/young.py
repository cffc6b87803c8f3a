"""What is known of a base after its variant began to be judged.

A variant starts from what is believed of its base. Where nobody had judged the base yet, that was the estimate alone,
and a few early answers of the variant moved its belief as far as they would a model that nobody knows. So the first
answers of such a variant are kept until its base is known, and it starts again from each state of that, with all of
them: what they say is weighed by what the base turned out to be.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from router.learning.belief import Belief
from router.learning.variants.descent import Descent

BASE_KNOWN = 100
"""Answers of a base after which what more it learns is no news for its variants."""
_MOST_KEPT = 50
"""Answers of a variant after which it stands on its own."""

Answer = tuple[float, float, str, float]
"""As `Belief.learn` takes it."""


class Young:
    """First answers of variants, by model."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Answer]] = {}

    def add(self, model: str, bases: Descent, beliefs: Mapping[str, Belief]) -> None:
        """A model made from `bases` is judged for the first time."""
        if bases and all(_is_open(beliefs.get(base)) for base, _ in bases):
            self._answers[model] = []

    def keep(self, model: str, answer: Answer) -> None:
        """An answer of a model was learned."""
        kept = self._answers.get(model)
        if kept is not None:
            kept.append(answer)
            if len(kept) > _MOST_KEPT:
                del self._answers[model]

    def begin_again(self, base: str, beliefs: MutableMapping[str, Belief], descents: Mapping[str, Descent]) -> None:
        """Something was learned of a base: put its young variants where they would be had it been known at first, and
        theirs. Each starts from the nearest that is known, which knows what is behind it."""
        moved = {base}
        for model in sorted(self._answers, key=lambda name: len(descents.get(name, ()))):
            line = descents.get(model, ())
            nearest, doubt = next(((name, far) for name, far in line if name in beliefs), ("", 0.0))
            if nearest not in moved or model in moved:
                continue
            moved.add(model)
            made = beliefs[nearest].child(doubt)
            for answer in self._answers[model]:
                made.learn(*answer)
            beliefs[model] = made
            if not _is_open(beliefs[nearest]):
                del self._answers[model]

    def forget(self) -> None:
        """From here on all stand on their own: beliefs were changed by more than answers."""
        self._answers.clear()


def _is_open(base: Belief | None) -> bool:
    return base is None or base.seen < BASE_KNOWN
