"""Documents in, one frozen `Policy` out; or everything that is wrong with them, each with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from router.domain.deployment import Deployment, Mode
from router.domain.errors import PolicyError
from router.domain.slo import Match, RequestClass
from router.policy.checks.classes import DEFAULT_CLASS, check_classes
from router.policy.checks.judging import check_judges
from router.policy.checks.references import check_references, check_served, check_slos
from router.policy.checks.terms import check_terms
from router.policy.compile_class import compile_class
from router.policy.compile_fleet import compile_fleet
from router.policy.openslo import settled
from router.policy.parse import PolicyErrors, Source
from router.policy.policy import Bounds, Policy
from router.policy.prices.book import NO_PRICE_FILES, PriceFiles, price_book
from router.policy.profiles import check_profiles, compile_profiles
from router.policy.schema.classes import ClassSpec, ClassTerms
from router.policy.schema.document import BoundsSpec
from router.policy.written import Documents, Written, read

__all__ = ["DEFAULT_CLASS", "Documents", "compile_policy", "digest"]


def compile_policy(
    documents: Documents, *, deployments: Sequence[Deployment] | None = None, price_files: PriceFiles = NO_PRICE_FILES
) -> Policy:
    """The policy that (file name, text) pairs make together; raises `PolicyErrors` with every problem.

    `deployments` takes the place of the fleet in the documents, which need not hold one then (the simulator brings
    its own); a class may name deployments that are not in it as long as one that it names is. What the documents say
    of how a deployment, or a group, of that name is steered holds for it all the same. `price_files` are those that the
    documents name.
    """
    written = read(documents)
    sources = written.sources
    problems: list[PolicyError] = []
    mode = _only(sources, ("mode",), problems) or Mode.ACT
    fleet, fleet_problems = compile_fleet(sources, price_book(sources, price_files, problems), mode)
    problems += fleet_problems
    if deployments is not None:
        fleet = _steered_as_written(deployments, fleet, mode)
    elif not fleet and not fleet_problems:
        file = documents[0][0] if documents else "policies"
        problems.append(PolicyError("no file has any `deployments`", file=file, line=1, column=1))
    defaults = _only(sources, ("defaults",), problems)
    bounds = _only(sources, ("bounds",), problems)
    worth = _only(sources, ("prices", "usd_per_useful"), problems)
    tenants = _tenants(sources, problems)
    profiles, profile_problems = compile_profiles(sources)
    problems += profile_problems
    problems += (p for place in written.terms() for p in check_profiles(*place, profiles))
    if not fleet_problems:
        problems += check_references(written, fleet, strict=deployments is None)
    for check in (check_terms, check_classes, check_slos):
        problems += check(written)
    problems += _check_bounds(sources)
    _refuse(problems)
    classes = _ordered(written, defaults, mode)
    _refuse([*check_served(written, classes, fleet), *check_judges(written, classes, fleet)])
    policy = Policy("", classes, fleet, _bounds(bounds), profiles=profiles, tenants=tenants)
    if worth is not None:
        policy = msgspec.structs.replace(policy, usd_per_useful=worth)
    return msgspec.structs.replace(policy, digest=digest(policy))


def _steered_as_written(
    deployments: Sequence[Deployment], written: Sequence[Deployment], mode: Mode
) -> tuple[Deployment, ...]:
    said = {name: d for d in reversed(written) for name in (d.group, d.name)}
    fleet = []
    for deployment in deployments:
        terms = said.get(deployment.name) or said.get(deployment.group)
        if terms is None:
            fleet.append(msgspec.structs.replace(deployment, mode=mode))
        else:
            bound = terms.max_in_flight
            fleet.append(msgspec.structs.replace(deployment, mode=terms.mode, limit=terms.limit, max_in_flight=bound))
    return tuple(fleet)


def _refuse(problems: Iterable[PolicyError]) -> None:
    found = sorted(problems, key=lambda p: (p.file, p.line, p.column))
    if found:
        raise PolicyErrors(found)


def digest(policy: Policy) -> str:
    """Twelve hex digits of the SHA-256 over what a policy means: comments, spelling and layout do not count."""
    meaning = msgspec.json.encode(msgspec.structs.replace(policy, digest=""), order="deterministic")
    return hashlib.sha256(meaning).hexdigest()[:12]


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


def _tenants(sources: Sequence[Source], problems: list[PolicyError]) -> dict[str, float]:
    tenants: dict[str, float] = {}
    for source in sources:
        for tenant, weight in source.document.tenants.items():
            if tenant in tenants:
                message = f"the weight of `{tenant}` is already in another file: keep one"
                problems.append(source.problem(("tenants", tenant), message, key=True))
            tenants[tenant] = weight
    return tenants


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
        window_s=spec.window,
        tenant_queue_ratio=spec.tenant_queue,
        fanout_parts=spec.fanout_parts,
        fanout_parallel=spec.fanout_parallel,
    )


def _ordered(written: Written, defaults: ClassTerms | None, mode: Mode) -> tuple[RequestClass, ...]:
    """Classes as they are tried. What matches everything is last, and is added where it was left out."""
    terms = None if defaults is None else settled(defaults, written.slos)
    in_order = sorted(written.classes, key=lambda w: w.spec.order)
    classes = [compile_class(settled(w.spec, written.slos), terms, mode) for w in in_order]
    classes.sort(key=lambda c: c.match == Match())
    if not classes or classes[-1].match != Match():
        classes.append(compile_class(ClassSpec(name=DEFAULT_CLASS), terms, mode))
    return tuple(classes)
