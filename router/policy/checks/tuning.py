"""Fields that have no effect beside what else a class says, and settings that few would mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from msgspec.structs import replace

from router.domain.aws.techniques import OTHER_ANSWERS, Technique, techniques
from router.domain.deployment import Deployment, Kind, Lane, LimitKind
from router.domain.rollout import RolloutMode
from router.domain.slo import RequestClass
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Bounds, Policy
from router.policy.schema.values import duration_text, ratio_text
from router.routing.filters import serves

MUCH_EXPLORATION = 0.2
_ON_DEMAND = re.compile(r"^(?:[a-z-]+\.[a-z0-9]|arn:.*:(?:foundation-model|(?:application-)?inference-profile)/)")
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


def check_bounded(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """What is written of waits, limits and batches, and a bound or another field does not allow."""
    longest = policy.bounds.queue_wait_s
    for request_class in policy.classes:
        name, patience = request_class.name, request_class.patience_s
        if patience > 0.0 and request_class.sheddable:
            message = "`patience` changes nothing: a request of a `sheddable` class is never kept for a cheaper lane"
            yield places.warn("patience_unused", name, ("patience",), message, key=True)
        elif patience > longest:
            message = f"no request is kept for so long: the queue keeps none for over {duration_text(longest)} "
            yield places.warn("patience_past_queue_wait", name, ("patience",), message + "(`queue_wait` of `bounds`)")
    for d in policy.deployments:
        yield from _check_bounds(policy.bounds, d, places)
        yield from _check_variant(policy, d, places)
        yield from _check_reserved(d, places)


def _check_reserved(d: Deployment, places: Places) -> Iterator[Problem | None]:
    """Reserved capacity of Bedrock that no call would use."""
    is_bought = d.kind is Kind.PROVISIONED and d.lane is not Lane.RESERVED and d.address.backend == "bedrock"
    if is_bought and _ON_DEMAND.match(d.address.target):
        message = "this model is called on demand, and paid by the token as well: provisioned throughput is called by "
        message += "its ARN (`router capacity list`), the reserved tier with `lane: reserved`"
        yield places.warn_deployment("reserved_unused", d.group, message, ("target",))


def _check_variant(policy: Policy, d: Deployment, places: Places) -> Iterator[Problem | None]:
    """What was done to it is not known, or it answers otherwise than its base under the base's name."""
    for i, entry in enumerate(d.optimizations):
        if not techniques((entry,)):
            message = f"`{entry}` names no technique, so nothing is expected of it: begin it with one of "
            message += ", ".join(Technique) + ", such as quantization-awq"
            yield places.warn_deployment("optimization_unknown", d.group, message, ("optimizations", i))
    changes = techniques(d.optimizations) & OTHER_ANSWERS
    for other in policy.deployments if changes else ():
        if other.model == d.model and not changes <= techniques(other.optimizations):
            message = f"it is taken for the same model as `{other.group}`, so what is learned of one is held of both: "
            message += f"give it a `model` of its own, and `derived_from: {d.model}`"
            yield places.warn_deployment("variant_unnamed", d.group, message, ("model",))
            return


def _check_bounds(bounds: Bounds, d: Deployment, places: Places) -> Iterator[Problem | None]:
    calls, here = d.limit.requests, ("limit", "requests")
    if calls is not None and calls > bounds.limit_max:
        message = f"it never has so many: `limit_max` of `bounds` allows {bounds.limit_max}"
        yield places.warn_deployment("limit_past_bounds", d.group, message, here)
    elif calls is not None and calls < bounds.limit_min and d.limit.kind is not LimitKind.FIXED:
        message = f"it never has so few: `limit_min` of `bounds` asks for {bounds.limit_min}"
        yield places.warn_deployment("limit_past_bounds", d.group, message, here)
    if d.kind is Kind.BATCH and d.max_items > bounds.batch_items_max:
        message = f"no batch is so large: `batch_items_max` of `bounds` allows {bounds.batch_items_max}"
        yield places.warn_deployment("batch_past_bounds", d.group, message, ("max_items",))


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
