"""Does every request that one class matches match another as well?

A `yes` is a proof, a `no` may be ignorance: wildcards in the middle of both texts are not compared. Conditions are
independent of each other, so one match covers another when each of its conditions follows from the same one there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from router.complexity.features import USE_CASES
from router.domain.slo import Match

_WILD = "*?["


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that `narrow` takes is one that `wide` takes too.

    Names of classes that requests ask for are compared like other texts: a request that names its class is tried only
    where there is such a condition.
    """
    if narrow.classes and not wide.classes:
        return False
    return (
        all(
            _all_covered(getattr(wide, field), getattr(narrow, field), _text_covers, everything="*")
            for field in ("classes", "tenants", "models")
        )
        and _all_covered(wide.topics, narrow.topics, _topic_covers, everything="#")
        and use_cases_of(narrow) <= use_cases_of(wide)
        and _attributes_cover(wide, narrow)
        and (wide.min_input_tokens or 0) <= (narrow.min_input_tokens or 0)
        and _at_most(narrow.max_input_tokens, wide.max_input_tokens)
    )


def use_cases_of(match: Match) -> frozenset[str]:
    """The use cases that a match lets through; all where it has no such condition."""
    if not match.use_cases:
        return frozenset(USE_CASES)
    return frozenset(u for u in USE_CASES if any(re.fullmatch(translate(p), u) for p in match.use_cases))


def _all_covered(
    wide: Sequence[str], narrow: Sequence[str], covered: Callable[[str, str], bool], *, everything: str
) -> bool:
    """Whether each text of `narrow` is covered by one of `wide`; no text at all lets everything through."""
    if not wide or everything in wide:
        return True
    return bool(narrow) and all(any(covered(w, n) for w in wide) for n in narrow)


def _text_covers(wide: str, narrow: str) -> bool:
    """`*` stands at the end or the beginning of `wide` and nothing else is wild there; or the two are the same."""
    if wide == narrow:
        return True
    if not any(c in narrow for c in _WILD):
        return re.fullmatch(translate(wide), narrow) is not None
    stem = wide.removesuffix("*")
    if stem != wide and not any(c in stem for c in _WILD):
        return narrow.startswith(stem)
    stem = wide.removeprefix("*")
    return stem != wide and not any(c in stem for c in _WILD + "]") and narrow.endswith(stem)


def _topic_covers(wide: str, narrow: str) -> bool:
    """Level by level: `#` stands for the rest, `+` for any one level."""
    ours, theirs = wide.split("/"), narrow.split("/")
    for i, level in enumerate(ours):
        if level == "#":
            return True
        if i >= len(theirs) or theirs[i] == "#" or (level != "+" and level != theirs[i]):
            return False
    return len(ours) == len(theirs)


def _attributes_cover(wide: Match, narrow: Match) -> bool:
    theirs = dict(narrow.attributes)
    return all(key in theirs and _text_covers(value, theirs[key]) for key, value in wide.attributes)


def _at_most(narrow: int | None, wide: int | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)
