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

    def keep(self, model: str, answer: Answer, bases: Descent, beliefs: Mapping[str, Belief]) -> None:
        """An answer of a model made from `bases` was learned: the first where its belief has seen one."""
        if bases and beliefs[model].seen == 1 and all(_is_open(beliefs.get(base)) for base, _ in bases):
            self._answers[model] = []
        kept = self._answers.get(model)
        if kept is not None:
            kept.append(answer)
            if len(kept) > _MOST_KEPT:
                del self._answers[model]

    def begin_again(self, base: str, beliefs: MutableMapping[str, Belief], descents: Mapping[str, Descent]) -> None:
        """Something was learned of a base: put its young variants where they would be had it been known at first."""
        for model in list(self._answers):
            doubt = next((doubt for name, doubt in descents.get(model, ()) if name == base), None)
            if doubt is None or base == model:
                continue
            made = beliefs[base].child(doubt)
            for answer in self._answers[model]:
                made.learn(*answer)
            beliefs[model] = made
            if not _is_open(beliefs[base]):
                del self._answers[model]

    def forget(self) -> None:
        """From here on all stand on their own: beliefs were changed by more than answers."""
        self._answers.clear()


def _is_open(base: Belief | None) -> bool:
    return base is None or base.seen < BASE_KNOWN
