"""Documents in, one frozen `Policy` out; or everything that is wrong with them, each with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from router.complexity.features import USE_CASES
from router.domain.deployment import Deployment, Tier
from router.domain.errors import PolicyError
from router.domain.slo import Indicator, Match, RequestClass
from router.policy.compile_class import compile_class, compile_match, promises
from router.policy.compile_fleet import RESERVED, compile_fleet
from router.policy.parse import Path, PolicyErrors, Source, read_document
from router.policy.policy import Bounds, Policy
from router.policy.schema.classes import ClassSpec, ClassTerms, FloorTerms, ObjectiveTerms
from router.policy.schema.document import BoundsSpec
from router.policy.schema.fleet import PriceSpec
from router.policy.schema.json import suggestion

Documents = Sequence[tuple[str, str]]
DEFAULT_CLASS = "default"


class _Written(NamedTuple):
    """One class and where it stands."""

    source: Source
    path: Path
    spec: ClassSpec


class _Known(NamedTuple):
    """What classes may refer to. `strict`: every reference must hold, not just one."""

    callable: frozenset[str]
    models: frozenset[str]
    strict: bool


def compile_policy(documents: Documents, *, deployments: Sequence[Deployment] | None = None) -> Policy:
    """The policy that (file name, text) pairs make together; raises `PolicyErrors` with every problem.

    `deployments` takes the place of the fleet in the documents, which need not hold one then (the simulator brings
    its own); a class may name deployments that are not in it as long as one that it names is.
    """
    sources = _read(documents)
    problems: list[PolicyError] = []
    fleet, fleet_problems = compile_fleet(sources, _prices(sources, problems))
    problems += fleet_problems
    if deployments is not None:
        fleet = tuple(deployments)
    elif not fleet and not fleet_problems:
        file = documents[0][0] if documents else "policies"
        problems.append(PolicyError("no file has any `deployments`", file=file, line=1, column=1))
    defaults = _only(sources, ("defaults",), problems)
    bounds = _only(sources, ("bounds",), problems)
    worth = _only(sources, ("prices", "usd_per_useful"), problems)
    written = _classes(sources)
    if not fleet_problems:
        problems += _check_references(sources, written, fleet, strict=deployments is None)
    problems += _check_classes(sources, written)
    problems += _check_bounds(sources)
    if problems:
        raise PolicyErrors(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
    policy = Policy("", _ordered(written, defaults), fleet, _bounds(bounds))
    if worth is not None:
        policy = msgspec.structs.replace(policy, usd_per_useful=worth)
    return msgspec.structs.replace(policy, digest=digest(policy))


def digest(policy: Policy) -> str:
    """Twelve hex digits of the SHA-256 over what a policy means: comments, spelling and layout do not count."""
    meaning = msgspec.json.encode(msgspec.structs.replace(policy, digest=""), order="deterministic")
    return hashlib.sha256(meaning).hexdigest()[:12]


def _read(documents: Documents) -> list[Source]:
    sources: list[Source] = []
    problems: list[PolicyError] = []
    for file, text in sorted(documents):
        source, found = read_document(file, text)
        problems += found
        if source is not None:
            sources.append(source)
    if problems:
        raise PolicyErrors(problems)
    return sources


def _only(sources: Sequence[Source], path: tuple[str, ...], problems: list[PolicyError]) -> Any:
    """A value that one file alone may hold, or `None`."""
    found: tuple[str, Any] | None = None
    for source in sources:
        value: Any = source.document
        for step in path:
            value = getattr(value, step, None)
        if value is not None and found is not None:
            message = f"`{path[-1]}` is already set in {found[0]}: keep one"
            problems.append(source.problem(path, message, key=True))
        elif value is not None:
            found = source.file, value
    return found[1] if found is not None else None


def _prices(sources: Sequence[Source], problems: list[PolicyError]) -> dict[str, PriceSpec]:
    prices: dict[str, PriceSpec] = {}
    for source in sources:
        if source.document.prices is None:
            continue
        for model, price in source.document.prices.models.items():
            if model in prices:
                message = f"the price of `{model}` is already in another file: keep one"
                problems.append(source.problem(("prices", "models", model), message, key=True))
            prices[model] = price
    return prices


def _classes(sources: Sequence[Source]) -> list[_Written]:
    """Every class as written: by file, then by position."""
    written = []
    for source in sources:
        if source.document.one_class is not None:
            written.append(_Written(source, ("class",), source.document.one_class))
        written += [_Written(source, ("classes", i), s) for i, s in enumerate(source.document.classes)]
    return written


def _check_classes(sources: Sequence[Source], written: Sequence[_Written]) -> Iterator[PolicyError]:
    for source in sources:
        if source.document.defaults is not None:
            yield from _check_terms(source, ("defaults",), source.document.defaults)
    names: dict[str, str] = {}
    for source, path, spec in written:
        yield from _check_terms(source, path, spec)
        if spec.name in names:
            message = f"the class `{spec.name}` is already in {names[spec.name]}: rename one"
            yield source.problem((*path, "name"), message)
        names.setdefault(spec.name, source.file)
    yield from _check_matches(written)


def _check_matches(written: Sequence[_Written]) -> Iterator[PolicyError]:
    """What matches nothing, and more than one class that matches everything."""
    catch_all: str | None = None
    for source, path, spec in written:
        tokens = spec.match.input_tokens
        if tokens.min is not None and tokens.max is not None and tokens.min > tokens.max:
            yield source.problem((*path, "match", "input_tokens"), "`min` is above `max`: nothing matches")
        yield from _check_use_cases(source, path, spec)
        if compile_match(spec.match) == Match():
            if catch_all is not None:
                message = f"`{spec.name}` matches everything, and so does `{catch_all}`: give one a `match`"
                yield source.problem(path, message)
            catch_all = catch_all or spec.name
        elif spec.name == DEFAULT_CLASS:
            message = "the class `default` takes what no other class matches: drop its `match`, or rename it"
            yield source.problem((*path, "match"), message, key=True)


def _check_use_cases(source: Source, path: Path, spec: ClassSpec) -> Iterator[PolicyError]:
    """A use case that no prompt is ever taken for."""
    for i, name in enumerate(spec.match.use_cases):
        if name not in USE_CASES and not any(c in name for c in "*?["):
            message = (
                f"no use case is called `{name}`{suggestion(name, USE_CASES) or ':'} there are {', '.join(USE_CASES)}"
            )
            yield source.problem((*path, "match", "use_cases", i), message)


def _check_terms(source: Source, path: Path, terms: ClassTerms) -> Iterator[PolicyError]:
    """Objectives that do not hang together."""
    seen: set[Indicator] = set()
    for where, indicator, value in promises(terms):
        here = (*path, "objectives", where)
        if indicator in seen:
            yield source.problem(here, f"a second objective for {indicator}: keep one")
        seen.add(indicator)
        if not isinstance(value, ObjectiveTerms):
            continue
        if indicator is Indicator.AVAILABILITY and value.threshold is not None:
            message = "availability has no threshold: its target is the share that is answered"
            yield source.problem((*here, "threshold"), message, key=True)
        if indicator is not Indicator.AVAILABILITY and value.threshold is None:
            yield source.problem(here, "missing required field `threshold`")


def _check_references(
    sources: Sequence[Source], written: Sequence[_Written], fleet: Sequence[Deployment], *, strict: bool
) -> Iterator[PolicyError]:
    """Names of deployments and models that are not there, and class names that would hide one."""
    models = frozenset(d.model for d in fleet)
    named = frozenset(n for d in fleet for n in (d.name, d.group)) | models
    known = _Known(named | frozenset(Tier), models, strict)
    for source in sources:
        if source.document.defaults is not None:
            yield from _check_terms_references(source, ("defaults",), source.document.defaults, known)
    for source, path, spec in written:
        yield from _check_terms_references(source, path, spec, known)
        if spec.name in RESERVED or (strict and spec.name in named):
            message = f"`{spec.name}` cannot be a class: as `model` it already means something else"
            yield source.problem((*path, "name"), message)


def _check_terms_references(source: Source, path: Path, terms: ClassTerms, known: _Known) -> Iterator[PolicyError]:
    names = terms.deployments
    absent = [i for i, name in enumerate(names) if name not in known.callable]
    if known.strict or len(absent) == len(names):
        for i in absent:
            hint = suggestion(names[i], sorted(known.callable)) or f"; there are: {', '.join(sorted(known.callable))}"
            message = f"no deployment, group, model or tier is called `{names[i]}`{hint}"
            yield source.problem((*path, "deployments", i), message)
    reference = terms.floor.reference if isinstance(terms.floor, FloorTerms) else None
    if known.strict and reference is not None and reference not in known.models:
        hint = suggestion(reference, sorted(known.models)) or f"; there are: {', '.join(sorted(known.models))}"
        message = f"no deployment has the model `{reference}`{hint}"
        yield source.problem((*path, "floor", "reference"), message)


def _check_bounds(sources: Sequence[Source]) -> Iterator[PolicyError]:
    for source in sources:
        bounds = source.document.bounds
        if bounds is not None and bounds.limit_min > bounds.limit_max:
            yield source.problem(("bounds", "limit_min"), "`limit_min` is above `limit_max`")


def _bounds(spec: BoundsSpec | None) -> Bounds:
    if spec is None:
        return Bounds()
    return Bounds(
        limit_min=spec.limit_min,
        limit_max=spec.limit_max,
        queue_requests=spec.queue_requests,
        queue_wait_s=spec.queue_wait,
        floor_price_max=spec.floor_price_max,
        capacity_price_max=spec.capacity_price_max,
        batch_items_max=spec.batch_items_max,
    )


def _ordered(written: Sequence[_Written], defaults: ClassTerms | None) -> tuple[RequestClass, ...]:
    """Classes as they are tried. What matches everything is last, and is added where it was left out."""
    classes = [compile_class(w.spec, defaults) for w in sorted(written, key=lambda w: w.spec.order)]
    classes.sort(key=lambda c: c.match == Match())
    if not classes or classes[-1].match != Match():
        classes.append(compile_class(ClassSpec(name=DEFAULT_CLASS), defaults))
    return tuple(classes)
