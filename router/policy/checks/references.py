"""Names that stand for something elsewhere: deployments, models, tags, OpenSLO documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from router.domain.deployment import Deployment, Tier
from router.domain.errors import PolicyError
from router.domain.slo import Indicator, RequestClass
from router.policy.compile_class import promises
from router.policy.compile_fleet import RESERVED
from router.policy.openslo import threshold_of, unkept
from router.policy.parse import Path, Source
from router.policy.schema.classes import ClassTerms, FloorTerms, ObjectiveTerms
from router.policy.schema.json import suggestion
from router.policy.written import Written
from router.routing.filters import serves


class _Known(NamedTuple):
    """What classes may refer to. `strict`: every reference must hold, not just one."""

    deployed: frozenset[str]
    named: frozenset[str]
    callable: frozenset[str]
    models: frozenset[str]
    tags: frozenset[str]
    strict: bool


def check_references(written: Written, fleet: Sequence[Deployment], *, strict: bool) -> Iterator[PolicyError]:
    """Names of deployments, models and tags that are not there, and class names that would hide one."""
    models = frozenset(d.model for d in fleet)
    deployed = frozenset(n for d in fleet for n in (d.name, d.group))
    named = deployed | models
    tags = frozenset(t for d in fleet for t in d.tags)
    known = _Known(deployed, named, named | frozenset(Tier), models, tags, strict)
    for source, path, terms in written.terms():
        yield from _check_servers(source, path, terms.deployments, known)
        for i, arm in enumerate(terms.rollout.arms):
            yield from _check_servers(source, (*path, "rollout", "arms", i), arm.deployments or (), known)
        if strict:
            yield from _check_names(source, path, terms, known)
    for source, path, spec in written.classes:
        if spec.name in RESERVED or (strict and spec.name in named):
            message = f"`{spec.name}` cannot be a class: as `model` it already means something else"
            yield source.problem((*path, "name"), message)


def _absent(what: str, name: str, known: frozenset[str]) -> str:
    there = f"; there are: {', '.join(sorted(known))}" if known else ""
    return f"{what} `{name}`{suggestion(name, sorted(known)) or there}"


def _check_servers(source: Source, path: Path, names: Sequence[str], known: _Known) -> Iterator[PolicyError]:
    absent = [i for i, name in enumerate(names) if name not in known.callable]
    if known.strict or len(absent) == len(names):
        for i in absent:
            message = _absent("no deployment, group, model or tier is called", names[i], known.callable)
            yield source.problem((*path, "deployments", i), message)


def _check_names(source: Source, path: Path, terms: ClassTerms, known: _Known) -> Iterator[PolicyError]:
    """References that the simulator's fleet, which is another one, need not hold."""
    names: list[tuple[Path, str, frozenset[str], str]] = []
    if isinstance(terms.floor, FloorTerms) and terms.floor.reference is not None:
        names.append((("floor", "reference"), terms.floor.reference, known.models, "no deployment has the model"))
    if terms.forced is not None:
        names.append((("forced",), terms.forced, known.named, "no deployment, group or model is called"))
    if terms.judge is not None:
        judge = terms.judge.deployment
        names.append((("judge", "deployment"), judge, known.deployed, "no deployment or group is called"))
    for i, name in enumerate(terms.fallback):
        names.append((("fallback", i), name, known.callable, "no deployment, group, model or tier is called"))
    for i, tag in enumerate(terms.residency):
        names.append((("residency", i), tag, known.tags, "no deployment has the tag"))
    for where, name, among, absent in names:
        if name not in among:
            yield source.problem((*path, *where), _absent(absent, name, among))


def check_slos(written: Written) -> Iterator[PolicyError]:
    """Objectives that refer to an OpenSLO document which is not there, cannot be kept, or says the same again."""
    told: set[str] = set()
    for source, path, terms in written.terms():
        for where, indicator, value in promises(terms):
            if not isinstance(value, ObjectiveTerms) or value.slo is None:
                continue
            here = (*path, "objectives", where)
            slo = written.slos.slos.get(value.slo)
            if slo is None:
                message = _absent("no SLO is called", value.slo, frozenset(written.slos.slos))
                yield source.problem((*here, "slo"), message)
                continue
            has_value = threshold_of(slo) is not None
            yield from _check_said_once(source, here, value, has_value=has_value)
            if indicator is not Indicator.AVAILABILITY and value.threshold is None and not has_value:
                message = f"the SLO `{value.slo}` compares with no `value`: give the `threshold` here, beside `slo`"
                yield source.problem(here, message)
            for problem in unkept(slo, written.slos, indicator):
                if str(problem) not in told:
                    yield problem
                told.add(str(problem))


def _check_said_once(source: Source, here: Path, value: ObjectiveTerms, *, has_value: bool) -> Iterator[PolicyError]:
    own = value.model_fields_set - ({"slo", "indicator"} if has_value else {"slo", "indicator", "threshold"})
    for name in sorted(own):
        field = type(value).model_fields[name].alias or name
        yield source.problem((*here, field), f"`{field}` comes from the SLO `{value.slo}`: keep one", key=True)


def check_served(
    written: Written, classes: Sequence[RequestClass], fleet: Sequence[Deployment]
) -> Iterator[PolicyError]:
    """Classes, and arms of their experiments, that no deployment may serve though every name in them is known."""
    places = {w.spec.name: w for w in written.classes}
    for request_class in classes:
        place = places.get(request_class.name)
        if place is None:
            continue
        source, path, spec = place
        if not any(serves(request_class, d) for d in fleet):
            field = next((f for f in ("residency", "forced", "deployments") if f in spec.model_fields_set), "name")
            yield source.problem((*path, field), _unserved(request_class))
            continue
        for i, arm in enumerate(request_class.rollout.arms):
            side = request_class if arm.deployments is None else replace(request_class, deployments=arm.deployments)
            if not any(serves(side, d) for d in fleet):
                here = (*path, "rollout", "arms", i, "deployments")
                yield source.problem(here, _unserved(side))


def _unserved(request_class: RequestClass) -> str:
    """Why nobody is left: what was asked for, and the tags that must be carried besides."""
    asked = request_class.forced or ", ".join(request_class.deployments)
    tags = ", ".join(request_class.residency)
    if asked and tags:
        return f"nobody may serve: none of {asked} carries the tags {tags} of `residency`"
    return f"nobody may serve: no deployment is {asked}" if asked else f"nobody may serve: no deployment carries {tags}"
