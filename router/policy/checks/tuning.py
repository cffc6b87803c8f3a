"""Fields that have no effect beside what else a class says, and settings that few would mean."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from msgspec.structs import replace

from router.domain.rollout import RolloutMode
from router.domain.slo import RequestClass
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Policy
from router.policy.schema.values import ratio_text
from router.routing.filters import serves

MUCH_EXPLORATION = 0.2
_ONLY_IN = {
    "step": RolloutMode.CANARY,
    "min_requests": RolloutMode.CANARY,
    "fast_burn": RolloutMode.CANARY,
    "require": RolloutMode.CANARY,
    "measure": RolloutMode.AB,
    "confidence": RolloutMode.AB,
}


def check_effect(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """What is written and changes nothing, or more than its author may think."""
    for request_class in policy.classes:
        name = request_class.name
        if request_class.exploration_ratio > MUCH_EXPLORATION:
            share = ratio_text(request_class.exploration_ratio)
            message = f"{share} of the requests may go where they are served worse; 1% to 5% is enough to learn"
            yield places.warn("much_exploration", name, ("exploration",), message)
        cache, temperature = request_class.cache, request_class.parameters.temperature
        if cache is not None and not cache.always and temperature:
            message = f"the class fills in temperature {temperature:g}, and only answers at 0 are kept: "
            message += "the cache serves those alone that ask for 0; write `when: always` to keep all"
            yield places.warn("cache_unused", name, ("cache",), message)
        if request_class.forced is not None and request_class.deployments:
            message = f"`deployments` changes nothing: `forced` sends all to {request_class.forced}"
            yield places.warn("forced_wins", name, ("deployments",), message, key=True)
        yield from _check_fallback(policy, request_class, places)
        yield from _check_rollout(request_class, places)


def _check_fallback(policy: Policy, request_class: RequestClass, places: Places) -> Iterator[Problem | None]:
    if request_class.fallback and request_class.max_retries == 0:
        message = "`fallback` changes nothing: `max_retries` is 0, nothing is tried again"
        yield places.warn("fallback_unused", request_class.name, ("fallback",), message, key=True)
        return
    able = [d for d in policy.deployments if serves(request_class, d)]
    for i, entry in enumerate(request_class.fallback):
        alone = replace(request_class, forced=None, residency=(), deployments=(entry,))
        if not any(serves(alone, d) for d in able):
            message = f"`{entry}` may not serve `{request_class.name}`: it is never fallen back to"
            yield places.warn("fallback_unused", request_class.name, ("fallback", i), message)


def _check_rollout(request_class: RequestClass, places: Places) -> Iterator[Problem | None]:
    rollout, name = request_class.rollout, request_class.name
    terms = places.saying(name, "rollout")
    written = frozenset() if terms is None else terms.rollout.model_fields_set
    for field, mode in _ONLY_IN.items():
        if field in written and rollout.mode is not mode:
            message = f"`{field}` changes nothing: it is for `mode: {mode}`"
            yield places.warn("rollout_unused", name, ("rollout", field), message, key=True)
    for (_, first), (i, second) in combinations(enumerate(rollout.arms), 2):
        if replace(second, name=first.name, share_ratio=first.share_ratio) == first:
            message = f"`{second.name}` does the same as `{first.name}`: there is nothing to compare"
            yield places.warn("arms_alike", name, ("rollout", "arms", i), message)
