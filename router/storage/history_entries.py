"""Entries of the history: what events say of who changed what, when and why, and how they are read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from router.domain import events as ev
from router.domain.control.stability import TuningChanged
from router.domain.learned import BeliefsWidened, LearnedImported, LearnedReset, LearningFrozen

FILE = "history.jsonl"
OPERATOR, CONTROLLER = "operator", "controller"
DETAILS_MAX = 50
_ADVISED = "advised"
_PRICED = {"capacity": "deployment", "input_tokens": "deployment", "output_tokens": "deployment", "tenant": "tenant"}
"""Whose price it is, by its kind; that of every other is a class's."""


class Kind(StrEnum):
    """What was changed."""

    POLICY = "policy"
    ROLLOUT = "rollout"
    BUDGET = "budget"
    LIMIT = "limit"
    PRICE = "price"
    CEILING = "ceiling"
    LEARNED = "learned"


OFTEN = frozenset({Kind.LIMIT, Kind.PRICE, Kind.CEILING})
"""Kinds that the controller makes many of."""

Value = str | float | None


class Entry(Struct, frozen=True, omit_defaults=True):
    """One change. `at` is wall seconds; `state` is what a policy, rollout or budget has come to; `details` are lines of
    the difference, or what was wrong with an edit. Of the text: its files, and the commit where it is under git."""

    at: float
    what: Kind
    who: str
    subject: str
    why: str
    field: str = ""
    old: Value = None
    new: Value = None
    state: str = ""
    details: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    commit: str | None = None
    author: str | None = None
    edited: bool = False


def history_file(state: Path) -> Path:
    """Where the daemon with this state directory keeps its history."""
    return state / FILE


def read_history(path: Path, *, skipped: Callable[[int], None] | None = None) -> Iterator[Entry]:
    """Every entry, oldest first; none where there is no file. `skipped` is told the number of each unreadable line."""
    decoder = msgspec.json.Decoder(Entry)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            try:
                entry = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                if skipped is not None and line.strip():
                    skipped(number)
                continue
            yield entry


def entry_of(event: ev.Event, at: float) -> Entry:
    """What an event of `ENTRIES` changed; `at` is for those that do not say when."""
    return ENTRIES[type(event)](event, at)


def started(digest: str, source: ev.PolicySource, at: float) -> Entry:
    """The router began to work under a policy."""
    entry = Entry(at, Kind.POLICY, OPERATOR, "policy", "the router started", new=digest, state="in force")
    return _from(source, entry, ())


def _applied(event: ev.PolicyApplied, _: float) -> Entry:
    why = "the directory was edited"
    if event.old == event.new:
        why = "a file it refers to was changed" if event.diff else "the text in force is back"
    entry = Entry(event.at, Kind.POLICY, OPERATOR, "policy", why, old=event.old, new=event.new, state="applied")
    return _from(event.source, entry, event.diff)


def _refused(event: ev.PolicyRejected, _: float) -> Entry:
    why = "it could not be accepted"
    entry = Entry(event.at, Kind.POLICY, OPERATOR, "policy", why, new=event.digest, state="refused")
    return _from(event.source, entry, event.problems)


def _from(source: ev.PolicySource | None, entry: Entry, details: tuple[str, ...]) -> Entry:
    source = source or ev.PolicySource("")
    return replace(
        entry,
        subject=source.directory or entry.subject,
        details=details[:DETAILS_MAX],
        files=source.changed,
        commit=source.commit,
        author=source.author,
        edited=source.edited,
    )


def _rollout(event: ev.RolloutChanged, _: float) -> Entry:
    subject, ratio = f"class {event.request_class}", event.ratio
    return Entry(event.at, Kind.ROLLOUT, CONTROLLER, subject, event.reason, event.version, new=ratio, state=event.state)


def _limit(event: ev.LimitUpdate, at: float) -> Entry:
    subject = f"deployment {event.deployment}"
    state = _ADVISED if event.advised else ""
    return Entry(at, Kind.LIMIT, CONTROLLER, subject, event.reason, event.what, event.old, event.new, state)


def _price(event: ev.PriceUpdate, at: float) -> Entry:
    subject = f"{_PRICED.get(event.kind, 'class')} {event.subject}"
    state = _ADVISED if event.advised else ""
    return Entry(at, Kind.PRICE, CONTROLLER, subject, event.reason, event.kind, event.old, event.new, state)


def _tuning(event: TuningChanged, at: float) -> Entry:
    details = tuple(f"{name}: {old:.4g} back to {new:.4g}" for name, old, new in event.restored)
    subject = f"for class {event.request_class}"
    return Entry(at, Kind.LIMIT, CONTROLLER, subject, event.reason, "tuning", event.old, event.new, event.new, details)


def _ceiling(event: ev.CeilingUpdate, at: float) -> Entry:
    subject, old, new = f"class {event.request_class}, {event.model}", event.old_tokens, event.new_tokens
    state = _ADVISED if event.advised else ""
    return Entry(at, Kind.CEILING, CONTROLLER, subject, event.reason, "max_tokens", old, new, state)


def _budget(event: ev.BudgetChanged, _: float) -> Entry:
    state, subject = "open" if event.open else "spent", f"class {event.request_class}"
    details = (f"spent {event.spent_usd:.6g} of {event.limit_usd:.6g} USD",)
    return Entry(event.at, Kind.BUDGET, CONTROLLER, subject, event.reason, "usd_per_day", state=state, details=details)


def _reset(event: LearnedReset, _: float) -> Entry:
    subject, details = ", ".join(event.parts), (*event.models, *event.classes)
    return Entry(event.at, Kind.LEARNED, OPERATOR, subject, "asked for", state="forgotten", details=details)


def _imported(event: LearnedImported, _: float) -> Entry:
    subject, why = ", ".join(event.parts), f"from {event.source}"
    return Entry(event.at, Kind.LEARNED, OPERATOR, subject, why, state="imported", details=event.models)


def _frozen(event: LearningFrozen, _: float) -> Entry:
    subject = ", ".join(event.frozen) or "everything"
    state = "frozen" if event.frozen else "learned again"
    return Entry(event.at, Kind.LEARNED, OPERATOR, subject, "asked for", state=state)


def _widened(event: BeliefsWidened, _: float) -> Entry:
    why = "another artefact estimates"
    return Entry(
        event.at,
        Kind.LEARNED,
        CONTROLLER,
        "quality",
        why,
        "artefact",
        event.old,
        event.new,
        "believed less",
        event.models,
    )


ENTRIES: dict[type[ev.Event], Callable[..., Entry]] = {
    ev.PolicyApplied: _applied,
    ev.PolicyRejected: _refused,
    ev.RolloutChanged: _rollout,
    ev.LimitUpdate: _limit,
    TuningChanged: _tuning,
    ev.PriceUpdate: _price,
    ev.CeilingUpdate: _ceiling,
    ev.BudgetChanged: _budget,
    LearnedReset: _reset,
    LearnedImported: _imported,
    LearningFrozen: _frozen,
    BeliefsWidened: _widened,
}
