"""What does the estimator go by? Permutation importance (Breiman, Machine Learning 45, 2001) over groups of features.

A group's values are shuffled between prompts, all of the group together, and the router is scored again: how far APGR
falls is what the group is worth to it. It works for trees, linear members and n-grams alike, and measures what routing
needs, not what one head's weights look like. Groups that say the same thing stand in for each other: a small fall means
that the rest can do without, not that the group carries nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from router.complexity.assessment.rows import Rows
from router.complexity.evaluate import LEAST_ROWS, Array, area, recovered, request_of
from router.complexity.features import NAMES
from router.complexity.hashing import WORD_BUCKETS
from router.complexity.trained import DENSE, TrainedEstimator
from router.domain.deployment import Tier
from router.domain.request import Request

MOST_ROWS: Final = 1_000
"""Rows that are shuffled: their n-gram flags (0.1 MB each) are kept in memory meanwhile."""
SHUFFLES: Final = 3
RARE: Final = "how common its words are"
WORDS: Final = "word n-grams"
CHARS: Final = "character n-grams"
_BEGINNINGS: Final = {
    "lists of words: share and count": ("share_", "count_"),
    "kinds of characters": ("chars_",),
    "what is asked for": ("asks_",),
    "opening, ending, set phrases": ("says_", "opens_", "stem_ends_"),
    "answer choices": ("choice", "last_choice", "log_choice", "log_stem", "stem_"),
    "conversation, tools, format": ("log_turns", "log_system", "log_earlier", "log_tools", "log_images", "json_"),
    "size": ("log_chars", "log_words", "log_lines", "log_sentences", "log_questions"),
}
_OTHER: Final = "shape of its words and numbers"
_Flags = NDArray[np.float32]


class Importance(Struct, frozen=True):
    """How far APGR falls without a group: mean, least and most over the shuffles. `features` is how many it has;
    n-grams count their buckets."""

    group: str
    features: int
    fall: float
    low: float
    high: float


class Attribution(Struct, frozen=True):
    """APGR of the `rows` that were shuffled, and the groups, the one worth most first."""

    rows: int
    apgr: float
    groups: tuple[Importance, ...]


class _Measured(Struct, frozen=True):
    """Features of the shuffled rows: the requests, dense (n, DENSE), flags (n, BUCKETS), the true gain (n,)."""

    requests: list[Request]
    dense: Array
    flags: _Flags
    gain: Array


def feature_groups() -> dict[str, list[int]]:
    """Every dense feature, by group."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(NAMES):
        found = (group for group, beginnings in _BEGINNINGS.items() if name.startswith(beginnings))
        groups.setdefault(next(found, _OTHER), []).append(index)
    groups[RARE] = list(range(len(NAMES), DENSE))
    return groups


def importance(
    rows: Rows,
    estimator: TrainedEstimator,
    *,
    small: str,
    large: str,
    rng: Generator,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Attribution | None:
    """What each group is worth on these rows; `None` where they are too few or have no gap to recover. Of more than
    `MOST_ROWS` a sample is taken. `progress(done, total)` is called along the way."""
    count = len(rows.examples)
    kept = np.sort(rng.permutation(count)[:MOST_ROWS])
    gain = rows.gain[kept]
    if len(kept) < LEAST_ROWS or gain.sum() <= 0.0:
        return None
    requests = [request_of(rows.examples[row].prompt) for row in kept.tolist()]
    dense, flags = zip(*(estimator.dense(request) for request in requests), strict=True)
    measured = _Measured(requests, np.array(dense), np.array(flags), gain)

    def apgr(dense: Iterable[Array], flags: Iterable[_Flags]) -> float:
        said = map(estimator.judge, measured.requests, dense, flags)
        score = [one.quality(large, Tier.LARGE) - one.quality(small, Tier.SMALL) for one in said]
        return area(recovered(np.array(score), gain))

    whole = apgr(measured.dense, measured.flags)
    alterations = _alterations(measured.flags.shape[1])
    found = []
    for done, (group, features, alter) in enumerate(alterations):
        progress(done, len(alterations))
        falls = [whole - apgr(*alter(measured, rng.permutation(len(kept)))) for _ in range(SHUFFLES)]
        found.append(Importance(group, features, sum(falls) / SHUFFLES, min(falls), max(falls)))
    progress(len(alterations), len(alterations))
    return Attribution(len(kept), whole, tuple(sorted(found, key=lambda one: -one.fall)))


_Order = NDArray[np.int64]
_Alter = Callable[[_Measured, _Order], tuple[Iterable[Array], Iterable[_Flags]]]


def _alterations(buckets: int) -> list[tuple[str, int, _Alter]]:
    """Per group: name, number of features, and what gives the features with the group taken from other rows."""

    def dense_of(columns: list[int]) -> _Alter:
        def alter(measured: _Measured, order: _Order) -> tuple[Iterable[Array], Iterable[_Flags]]:
            dense = measured.dense.copy()
            dense[:, columns] = measured.dense[order][:, columns]
            return dense, measured.flags

        return alter

    def words(measured: _Measured, order: _Order) -> tuple[Iterable[Array], Iterable[_Flags]]:
        return measured.dense, _spliced((measured.flags[row] for row in order), measured.flags)

    def chars(measured: _Measured, order: _Order) -> tuple[Iterable[Array], Iterable[_Flags]]:
        return measured.dense, _spliced(measured.flags, (measured.flags[row] for row in order))

    dense = [(name, len(columns), dense_of(columns)) for name, columns in feature_groups().items()]
    return [*dense, (WORDS, WORD_BUCKETS, words), (CHARS, buckets - WORD_BUCKETS, chars)]


def _spliced(words: Iterable[_Flags], chars: Iterable[_Flags]) -> Iterator[_Flags]:
    """Flags with the words of one row and the characters of another, row by row: a copy of all would be large."""
    for of_words, of_chars in zip(words, chars, strict=True):
        yield np.concatenate((of_words[:WORD_BUCKETS], of_chars[WORD_BUCKETS:]))
