"""The difference of two policies as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from router.policy.meaning.change import Change
from router.policy.meaning.compare import Comparison, effects
from router.policy.meaning.probes import Example

_MOST_EXAMPLES = 6
"""Of one pair of classes."""
_WIDEST = 40
"""Characters of a pair of values that others are aligned with."""


def lines(found: Comparison) -> Iterator[str]:
    """What changes, subject by subject; who falls elsewhere; how it comes into force."""
    if found.old == found.new:
        yield f"both mean the same ({found.old}): at most text and layout differ"
        return
    count = len(found.changes)
    yield f"policy {found.old} -> {found.new}: {count} change{'' if count == 1 else 's'} in meaning"
    widths = _widths(found.changes)
    for subjects, changes in _alike(found.changes):
        yield ""
        yield _called(subjects)
        yield from (f"  {_row(change, widths)}" for change in changes)
    yield ""
    yield from _elsewhere(found)
    yield ""
    yield "how it comes into force"
    yield from (f"  {_called(subjects)}: {effect.text}" for effect, subjects in effects(found.changes).items())
    yield "  requests in flight end under the policy they began with"
    if found.environment:
        yield f"  restart the daemon first if it was not started with {', '.join(found.environment)}"
    else:
        yield "  nothing needs a restart"


def _alike(changes: Sequence[Change]) -> Iterator[tuple[list[str], list[Change]]]:
    """The changes by subject; subjects that change in the same way are told together."""
    found: dict[tuple[object, ...], tuple[list[str], list[Change]]] = {}
    for subject, group in groupby(changes, key=lambda change: change.subject):
        own = list(group)
        key = tuple((change.move, change.effect) for change in own)
        found.setdefault(key, ([], own))[0].append(subject)
    yield from found.values()


def _called(subjects: Sequence[str]) -> str:
    """Subjects by their kind: `class a, b; deployment c; bounds`."""
    kinds: dict[str, list[str]] = {}
    for subject in subjects:
        kind, _, name = subject.partition(" ")
        kinds.setdefault(kind, []).append(name)
    return "; ".join(f"{kind} {', '.join(names)}".rstrip() for kind, names in kinds.items())


def _widths(changes: Sequence[Change]) -> tuple[int, int, int]:
    """Of kind, field and values; a long value does not push the others away."""
    moves = [change.move for change in changes]
    kinds, fields = (max(map(len, texts), default=0) for texts in ([m.kind for m in moves], [m.field for m in moves]))
    return kinds, fields, max((len(_values(c)) for c in changes if len(_values(c)) <= _WIDEST), default=0)


def _values(change: Change) -> str:
    return f"{change.move.old} -> {change.move.new}"


def _row(change: Change, widths: tuple[int, int, int]) -> str:
    move = change.move
    meaning = ", ".join(text for text in (move.direction, move.note) if text)
    kind, field, values = widths
    return f"{move.kind:<{kind}}  {move.field:<{field}}  {_values(change):<{values}}  {meaning}".rstrip()


def _elsewhere(found: Comparison) -> Iterator[str]:
    rerouted = found.rerouted()
    if rerouted:
        yield "may be decided otherwise"
        for classes, subjects in rerouted.items():
            whose = "every class" if classes == found.classes else f"class {', '.join(classes)}"
            yield f"  {whose}: " + ("by its own edit" if subjects == (whose,) else f"by {_called(subjects)}")
        yield ""
    yield f"requests in another class (of {found.probes} kinds that were tried)"
    if not found.examples:
        yield "  none"
    ordered = sorted(found.examples, key=lambda e: (e.old, e.new))
    for (old, new), group in groupby(ordered, key=lambda e: (e.old, e.new)):
        examples: list[Example] = list(group)
        yield from (f"  {example.request}: {old} -> {new}" for example in examples[:_MOST_EXAMPLES])
        if len(examples) > _MOST_EXAMPLES:
            yield f"  ... and {len(examples) - _MOST_EXAMPLES} more: {old} -> {new}"
