"""Promises that stand in OpenSLO v1 documents, and what an objective that refers to one takes from it.

Only what is referred to must be of the kind that the router keeps: one objective, `lte` or `lt`, a rolling window, each
request counted once. Any other document of the format is left in peace, as long as it is well formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import yaml
from msgspec import Struct
from pydantic_core import PydanticCustomError

from router.domain.errors import PolicyError
from router.domain.slo import Indicator
from router.policy.compile_class import promises
from router.policy.parse import Path, Tree, problem_at, read_node
from router.policy.schema.classes import ClassTerms, ObjectivesByName, ObjectiveTerms
from router.policy.schema.json import suggestion
from router.policy.schema.openslo import Header, Metadata, SliObject, SloObject, openslo_wording
from router.policy.schema.values import read_duration

UNIT_KEY = "router/unit"
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MONTH_S = 30 * 86400.0
T = TypeVar("T", bound=ClassTerms)


class Slo(Struct, frozen=True):
    """One SLO and where it stands."""

    file: str
    root: yaml.Node
    written: SloObject

    @property
    def name(self) -> str:
        """What an objective calls it."""
        return self.written.metadata.name

    def problem(self, path: Path, message: str, *, key: bool = False) -> PolicyError:
        """An error placed at a path of this document."""
        return problem_at(self.file, self.root, path, message, key=key)


class Slos(Struct, frozen=True):
    """All SLOs and SLIs of a directory, by name."""

    slos: Mapping[str, Slo] = {}
    slis: Mapping[str, SliObject] = {}


def is_openslo(trees: Sequence[Tree]) -> bool:
    """Whether a file is written in OpenSLO: some document in it has an `apiVersion`, which no policy has."""
    return any(_has_version(tree.root) for tree in trees)


def _has_version(root: yaml.Node) -> bool:
    return isinstance(root, yaml.MappingNode) and any(key.value == "apiVersion" for key, _ in root.value)


def read_openslo(files: Mapping[str, Sequence[Tree]]) -> tuple[Slos, list[PolicyError]]:
    """What the OpenSLO files of a directory hold, and what is malformed in them."""
    slos: dict[str, Slo] = {}
    slis: dict[str, SliObject] = {}
    problems: list[PolicyError] = []
    for file, trees in files.items():
        for tree in trees:
            if isinstance(tree.root, yaml.ScalarNode) and not tree.root.value:
                continue
            found, malformed = _read_object(file, tree.root)
            problems += malformed
            if isinstance(found, SloObject):
                slo = Slo(file, tree.root, found)
                problems += _ill_formed(slo, slos.get(slo.name))
                slos.setdefault(slo.name, slo)
            elif isinstance(found, SliObject):
                slis.setdefault(found.metadata.name, found)
    return Slos(slos, slis), problems


def _read_object(file: str, root: yaml.Node) -> tuple[Header | None, tuple[PolicyError, ...]]:
    if isinstance(root, yaml.MappingNode) and not _has_version(root):
        message = "this file holds OpenSLO documents, which begin with `apiVersion: openslo/v1`: put others elsewhere"
        return None, (problem_at(file, root, (), message),)
    header, problems = _read_as(Header, file, root)
    if header is None or header.kind not in ("SLO", "SLI"):
        return header, problems
    return _read_as(SloObject if header.kind == "SLO" else SliObject, file, root)


def _read_as(model: type[Header], file: str, root: yaml.Node) -> tuple[Header | None, tuple[PolicyError, ...]]:
    return read_node(file, root, model.model_validate_json, partial(openslo_wording, model))


def _ill_formed(slo: Slo, earlier: Slo | None) -> Iterator[PolicyError]:
    """What the format asks for besides single fields, whoever refers to the SLO."""
    if earlier is not None:
        message = f"the SLO `{slo.name}` is already in {earlier.file}: rename one"
        yield slo.problem(("metadata", "name"), message)
    spec = slo.written.spec
    composite = all(o.indicator is not None or o.indicator_ref is not None for o in spec.objectives)
    if spec.indicator is not None and spec.indicator_ref is not None:
        yield slo.problem(("spec", "indicatorRef"), "`indicator` and `indicatorRef` say the same: keep one", key=True)
    elif spec.indicator is None and spec.indicator_ref is None and not composite:
        yield slo.problem(("spec",), "missing required field `indicator`, or `indicatorRef`", key=True)
    for i, objective in enumerate(spec.objectives):
        here = ("spec", "objectives", i)
        if objective.target is not None and objective.target_percent is not None:
            yield slo.problem((*here, "targetPercent"), "`target` and `targetPercent` say the same: keep one", key=True)
        elif objective.target is None and objective.target_percent is None:
            yield slo.problem(here, "missing required field `target`, or `targetPercent`")


def unkept(slo: Slo, slos: Slos, indicator: Indicator) -> Iterator[PolicyError]:
    """Why an SLO that an objective refers to cannot be kept by the router, each at its place in the SLO."""
    spec = slo.written.spec
    if len(spec.objectives) > 1:
        message = "a class refers to this SLO: it must have one objective, put the others into SLOs of their own"
        yield slo.problem(("spec", "objectives", 1), message)
    if spec.budgeting_method not in (None, "Occurrences"):
        message = f"the router counts each request once: write Occurrences, {spec.budgeting_method} is not kept"
        yield slo.problem(("spec", "budgetingMethod"), message)
    reference = spec.indicator_ref
    if reference is not None and reference not in slos.slis:
        message = f"no SLI is called `{reference}`{suggestion(reference, sorted(slos.slis))}"
        yield slo.problem(("spec", "indicatorRef"), message)
    yield from _unkept_window(slo)
    yield from _unkept_threshold(slo, slos, indicator)


def _unkept_window(slo: Slo) -> Iterator[PolicyError]:
    (window,) = slo.written.spec.time_window or (None,)
    here: Path = ("spec", "timeWindow", 0)
    if window is None:
        return
    if window.calendar is not None:
        message = "the router keeps rolling windows only: drop `calendar`, and write `isRolling: true`"
        yield slo.problem((*here, "calendar"), message, key=True)
    elif window.is_rolling is False:
        yield slo.problem((*here, "isRolling"), "the router keeps rolling windows only: write true")
    try:
        if read_duration(window.duration) == 0:
            yield slo.problem((*here, "duration"), "a window takes some time: write more than 0")
    except PydanticCustomError:
        message = f"`{window.duration}` is not a fixed time: write it in days or weeks, such as 30d"
        yield slo.problem((*here, "duration"), message)


def _unkept_threshold(slo: Slo, slos: Slos, indicator: Indicator) -> Iterator[PolicyError]:
    first, here = slo.written.spec.objectives[0], ("spec", "objectives", 0)
    if not 0 < _target(slo) < 1:
        field = "target" if first.target is not None else "targetPercent"
        yield slo.problem((*here, field), "a target lies above 0 and below 100%: there must be an error budget")
    if first.indicator is not None or first.indicator_ref is not None:
        yield slo.problem(here, "the router keeps no composite SLOs: give the SLO one indicator")
    if first.value is None:
        return
    if indicator is Indicator.AVAILABILITY:
        message = "availability has no threshold: its target is the share that is answered"
        yield slo.problem((*here, "value"), message, key=True)
    elif first.op not in ("lte", "lt"):
        told = "missing `op`" if first.op is None else f"`{first.op}` is not kept"
        yield slo.problem((*here, "op"), f"{told}: a latency is good when it is at most the value, write lte")
    if first.value <= 0:
        yield slo.problem((*here, "value"), "a threshold is above 0")
    where, unit = _unit(slo, slos)
    if str(unit) not in _UNITS_S:
        yield slo.problem(where, f"`{unit}` is not a unit of time: write {', '.join(_UNITS_S)}")


def _unit(slo: Slo, slos: Slos) -> tuple[Path, object]:
    """The unit of the threshold and where it is written: at the SLO, else at its indicator, else seconds."""
    spec = slo.written.spec
    places: list[tuple[Path, Metadata | None]] = [(("metadata",), slo.written.metadata)]
    if spec.indicator is not None:
        places.append((("spec", "indicator", "metadata"), spec.indicator.metadata))
    sli = slos.slis.get(spec.indicator_ref or "")
    if sli is not None:
        places.append((("spec", "indicatorRef"), sli.metadata))
    for path, metadata in places:
        for field in ("annotations", "labels"):
            marks: Mapping[str, Any] = getattr(metadata, field, {})
            if UNIT_KEY in marks:
                return (*path, field, UNIT_KEY), marks[UNIT_KEY]
    return (), "s"


def _target(slo: Slo) -> float:
    first = slo.written.spec.objectives[0]
    return first.target if first.target is not None else round((first.target_percent or 0.0) / 100, 12)


def threshold_of(slo: Slo) -> float | None:
    """The value that the SLO compares with, in its own unit; `None` where its indicator is a ratio."""
    return slo.written.spec.objectives[0].value


def settled(terms: T, slos: Slos) -> T:
    """The terms of a class with every objective written out that refers to an SLO. Nothing is `unkept`."""
    written: dict[str | int, ObjectiveTerms] = {
        where: _written_out(slos.slos[value.slo], slos, value)
        for where, _, value in promises(terms)
        if isinstance(value, ObjectiveTerms) and value.slo is not None
    }
    if not written:
        return terms
    objectives = terms.objectives
    if isinstance(objectives, ObjectivesByName):
        by_name = objectives.model_copy(update={str(k): v for k, v in written.items()})
        return terms.model_copy(update={"objectives": by_name})
    return terms.model_copy(update={"objectives": tuple(written.get(i, o) for i, o in enumerate(objectives))})


def _written_out(slo: Slo, slos: Slos, own: ObjectiveTerms) -> ObjectiveTerms:
    value = threshold_of(slo)
    window = slo.written.spec.time_window
    terms: dict[str, object] = {
        "slo": None,
        "target": _target(slo),
        "time_window": read_duration(window[0].duration) if window else _MONTH_S,
    }
    if value is not None:
        terms["threshold"] = value * _UNITS_S[str(_unit(slo, slos)[1])]
    return own.model_copy(update=terms)
