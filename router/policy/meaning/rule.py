"""How a field is weighed: is another value of it tighter or looser, and what does it mean?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from msgspec import Struct

from router.policy.diff import value_text
from router.policy.meaning.change import Direction, Kind, Move

RATIOS = frozenset({"ratio", "target", "exploration_ratio", "confidence_ratio"})
"""Shares of requests or answers: they move by points and not by a share of themselves."""


class Rule(Struct, frozen=True):
    """One field of a struct and its name in the documents.

    `less` is the direction of a smaller figure, a shorter list or a switch turned off; `None` where neither is
    tighter. `absent` is the figure that an absent one stands for. An empty list means any, where `empty_is_any`.
    `says` tells what a new value means.
    """

    field: str
    kind: Kind
    name: str = ""
    less: Direction | None = None
    absent: float = math.inf
    empty_is_any: bool = False
    says: Mapping[object, str] = {}


def moves(rules: tuple[Rule, ...], old: Struct, new: Struct, prefix: str = "") -> Iterator[Move]:
    """Every field of these rules that differs."""
    for rule in rules:
        before, after = getattr(old, rule.field), getattr(new, rule.field)
        if before != after:
            yield Move(
                prefix + (rule.name or rule.field),
                _text(rule, before),
                _text(rule, after),
                rule.kind,
                _direction(rule, before, after),
                _note(rule, before, after),
            )


def _text(rule: Rule, value: object) -> str:
    return "any" if rule.empty_is_any and not value else value_text(rule.field, value)


def _direction(rule: Rule, before: object, after: object) -> Direction | None:
    if rule.less is None:
        return None
    if isinstance(before, tuple | frozenset) and isinstance(after, tuple | frozenset):
        return _of_lists(rule, rule.less, frozenset(before), frozenset(after))
    old, new = _figure(rule, before), _figure(rule, after)
    if old is None or new is None or old == new:
        return None
    return rule.less if new < old else rule.less.opposite


def _of_lists(rule: Rule, less: Direction, old: frozenset[object], new: frozenset[object]) -> Direction | None:
    any_before, any_after = (rule.empty_is_any and not names for names in (old, new))
    if any_before or (new < old and not any_after):
        return less
    return less.opposite if any_after or old < new else None


def _figure(rule: Rule, value: object) -> float | None:
    if value is None:
        return rule.absent
    return float(value) if isinstance(value, int | float) else None


def _note(rule: Rule, before: object, after: object) -> str:
    if isinstance(after, bool | str | None) and rule.says:
        return rule.says.get(after) or rule.says.get(str, "")
    if isinstance(before, tuple | frozenset) and isinstance(after, tuple | frozenset):
        return _of_items(rule, before, after)
    if isinstance(before, float) and isinstance(after, float):
        return _points(before, after) if rule.field in RATIOS else share(before, after)
    return ""


def _points(before: float, after: float) -> str:
    return f"{(after - before) * 100:+.3g} points"


def share(before: float, after: float) -> str:
    """By how much a figure moved, where that can be said as a share of what it was."""
    if not before or not after or not math.isfinite(before) or not math.isfinite(after):
        return ""
    times = after / before
    return f"{times:.3g} times as much" if times > 2 else f"{'+' if times > 1 else ''}{(times - 1) * 100:.3g}%"


def _of_items(
    rule: Rule, before: tuple[object, ...] | frozenset[object], after: tuple[object, ...] | frozenset[object]
) -> str:
    """What came and what went; nothing is said twice where a list is new or gone as a whole."""
    come, gone = [v for v in after if v not in before], [v for v in before if v not in after]
    if not before or not after:
        return ""
    if not come and not gone:
        return "in another order"
    parts = [
        f"{word} {', '.join(sorted(value_text(rule.field, (v,)).strip('[]') for v in values))}"
        for word, values in (("also", come), ("no longer", gone))
        if values
    ]
    return "; ".join(parts)
