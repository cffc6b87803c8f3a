"""Which row of a checkpoint belongs to which part, model and class: what can be chosen, forgotten, carried, merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct, convert
from msgspec.structs import replace

from router.core.snapshot import VERSION, Snapshot
from router.domain.errors import RequestError
from router.domain.learned import Part

_V = TypeVar("_V")
FIELDS: dict[Part, tuple[str, ...]] = {
    Part.QUALITY: ("qualities",),
    Part.LENGTHS: ("lengths",),
    Part.LATENCY: ("latency",),
    Part.CEILINGS: ("ceilings",),
    Part.CHECKS: ("checks",),
    Part.PRICES: ("floors", "capacity"),
}
BY_CLASS = (Part.LENGTHS, Part.CEILINGS, Part.PRICES)
_SHOWN = 12


class Choice(Struct, frozen=True):
    """Rows of some parts; of some models or deployments, and of some classes, where these are named."""

    parts: tuple[Part, ...]
    models: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `RequestError` for a choice that means nothing."""
        if not self.parts:
            raise RequestError(f"say what: one or more of {', '.join(Part)}", param="what")
        apart = [part for part in self.parts if self.classes and part not in BY_CLASS]
        if apart:
            raise RequestError(
                f"{', '.join(apart)} is not kept by class: leave the classes out, or choose among "
                f"{', '.join(BY_CLASS)}",
                param="classes",
            )

    def covers(self, name: str, key: str, models: Mapping[str, str]) -> bool:
        """Whether a row is chosen. `models` names the model of each deployment."""
        row = _owner(name, key, models)
        by_model = not self.models or not row.models.isdisjoint(self.models)
        return by_model and (not self.classes or row.request_class in self.classes)


class _Owner(Struct, frozen=True):
    request_class: str
    models: frozenset[str]


def _owner(field: str, key: str, models: Mapping[str, str]) -> _Owner:
    """Whose row it is. The side of a rollout belongs to its class; a deployment answers to its model's name too."""
    first, _, rest = key.partition("\t")
    match field:
        case "qualities" | "checks":
            return _Owner("", frozenset((first,)))
        case "lengths" | "ceilings":
            return _Owner(first.partition("/")[0], frozenset((rest,)))
        case "floors":
            return _Owner(first.partition("/")[0], frozenset())
        case _:
            return _Owner("", frozenset((first, models.get(first, first))))


def without(snapshot: Snapshot, choice: Choice) -> tuple[Snapshot, int]:
    """What is left when the chosen rows are forgotten, and how many those are. Raises `RequestError` where models or
    classes are named of which nothing is known: such a name is a mistake."""
    kept, gone = _parted(snapshot, choice)
    rows = sum(len(table) for table in gone.values())
    if not rows and (choice.models or choice.classes):
        raise RequestError(
            f"nothing is known of {', '.join((*choice.models, *choice.classes))} in {', '.join(choice.parts)}; "
            f"{_known(snapshot, choice.parts)}"
        )
    return replace(snapshot, **kept), rows


def merged(mine: Snapshot, theirs: Snapshot, choice: Choice) -> tuple[Snapshot, tuple[str, ...]]:
    """What is known with the chosen rows of `theirs`, and the models and deployments they are of: for a model that
    both know, all of theirs takes the place of all of mine, part by part; what only one knows stays. Evidence is not
    added up: both may have learned from the same answers. A deployment that serves another model there is left out."""
    here = {name: row for name, row in theirs.latency.items() if mine.latency.get(name, row)[0] == row[0]}
    _, taken = _parted(replace(theirs, latency=here), choice)
    models: dict[str, str] = _models(mine) | _models(theirs)
    fields: dict[str, dict[str, object]] = {}
    names: set[str] = set()
    for name, rows in taken.items():
        owners = {_owned(name, key) for key in rows}
        names |= owners
        table: Mapping[str, object] = getattr(mine, name)
        gives_way = {key for key in table if _owned(name, key) in owners and choice.covers(name, key, models)}
        fields[name] = {**{key: row for key, row in table.items() if key not in gives_way}, **rows}
    return replace(mine, **fields), tuple(sorted(names))


def only(snapshot: Snapshot, choice: Choice) -> Snapshot:
    """The chosen rows, and nothing else of the place they come from: no money, no decision ids, nothing frozen."""
    _, taken = _parted(snapshot, choice)
    nothing: dict[str, dict[str, object]] = {name: {} for names in FIELDS.values() for name in names}
    fields = nothing | taken
    return convert(
        {"version": VERSION, "policy": snapshot.policy, "saved_at": snapshot.saved_at, **fields}, type=Snapshot
    )


def _parted(snapshot: Snapshot, choice: Choice) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """The fields of the chosen parts, without the chosen rows and with nothing else."""
    models = _models(snapshot)
    kept: dict[str, dict[str, object]] = {}
    gone: dict[str, dict[str, object]] = {}
    for name in (name for part in choice.parts for name in FIELDS[part]):
        table: Mapping[str, object] = getattr(snapshot, name)
        chosen = {key for key in table if choice.covers(name, key, models)}
        kept[name] = {key: row for key, row in table.items() if key not in chosen}
        gone[name] = {key: row for key, row in table.items() if key in chosen}
    return kept, gone


def _models(snapshot: Snapshot) -> dict[str, str]:
    return {name: model for name, (model, _) in snapshot.latency.items()}


def _owned(field: str, key: str) -> str:
    """Whose rows a merge takes the place of as one: a model's, or a deployment's or class's where they are kept so."""
    first, _, rest = key.partition("\t")
    return rest if field in ("lengths", "ceilings") else first


def _known(snapshot: Snapshot, parts: Iterable[Part]) -> str:
    models = _models(snapshot)
    owners = [_owner(name, key, models) for p in parts for name in FIELDS[p] for key in getattr(snapshot, name)]
    names = sorted({model for owner in owners for model in owner.models})
    classes = sorted({owner.request_class for owner in owners} - {""})
    told = [f"{what}: {', '.join(some[:_SHOWN])}" for what, some in (("models", names), ("classes", classes)) if some]
    return f"known are {'; '.join(told)}" if told else "nothing is known there"
