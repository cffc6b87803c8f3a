"""Classes that no request reaches, and deployments that no class, or only some hours, can use."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.deployment import Kind
from router.domain.slo import Match, RequestClass
from router.policy.checks.cover import covers, use_cases_of
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Policy
from router.routing.filters import serves


def check_matches(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """Classes that nothing falls in: their conditions match nothing, or an earlier class takes all they match."""
    names = {c.name: c for c in policy.classes}
    for i, late in enumerate(policy.classes):
        nothing = list(_matches_nothing(late, names))
        for path, message in nothing:
            yield places.warn("class_matches_nothing", late.name, ("match", *path), message)
        early = next((c for c in policy.classes[:i] if covers(c.match, late.match)), None)
        if early is not None and not nothing:
            message = f"no request falls in `{late.name}` but by name: all that it matches goes to `{early.name}`"
            message += ", which is tried before it (by `order`, then file name, then position)"
            path = () if late.match == Match() else ("match",)
            yield places.warn("class_shadowed", late.name, path, message, key=bool(path))


def _matches_nothing(late: RequestClass, names: dict[str, RequestClass]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Path below `match`, and why."""
    if not use_cases_of(late.match):
        yield ("use_cases",), "no use case has such a name: nothing matches"
    if late.match.topics and all(t.startswith("$share/") for t in late.match.topics):
        yield ("topics",), "a shared subscription is no topic: write the filter without `$share/` and the group's name"
    for field in ("classes", "models"):
        asked: tuple[str, ...] = getattr(late.match, field)
        others = [n for n in asked if n in names and n != late.name and not names[n].match.tenants]
        if asked and len(others) == len(asked):
            yield (field,), f"a request that asks for `{others[0]}` gets the class of that name: nothing matches"


def check_capacity(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """Reserved capacity with nothing to spill to, and deployments that no class may use."""
    spilling = {d.name for d in policy.deployments if d.kind is not Kind.PROVISIONED}
    used: set[str] = set()
    told: set[str] = set()
    for request_class in policy.classes:
        able = [d for d in policy.deployments if serves(request_class, d)]
        used |= {d.name for d in able}
        if able and not any(d.name in spilling for d in able):
            name, reserved = request_class.name, able[0]
            message = f"`{name}` has no overflow: only reserved capacity may serve it ({reserved.group}), and what is"
            message += " over its tokens a minute waits or is refused; let a deployment on demand serve it too"
            field = next((f for f in ("deployments", "residency", "forced") if getattr(request_class, f)), None)
            if field is not None:
                yield places.warn("no_overflow", name, (field,), message)
            elif reserved.group not in told:
                told.add(reserved.group)
                yield places.warn_deployment("no_overflow", reserved.group, message)
    for group in dict.fromkeys(d.group for d in policy.deployments):
        if not used & {d.name for d in policy.deployments if d.group == group}:
            yield places.warn_deployment("deployment_unused", group, f"no class may use `{group}`")
