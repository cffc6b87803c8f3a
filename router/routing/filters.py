"""Why can a deployment not serve this request?

Codes: `not_allowed`, `lacks_capability`, `context_too_long`, `tried`, `unhealthy`, `too_dear`, `exceeds_quota`,
`no_quota`, `at_limit`. The codes in `PASSING` pass by themselves: a request that only they keep out may wait.
"""

from __future__ import annotations

from collections.abc import Callable

from router.domain.decision import Exclusion
from router.domain.deployment import Deployment
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView
from router.routing.need import Need

Filter = Callable[[DeploymentView, Need], Exclusion | None]

PASSING = frozenset({"at_limit", "no_quota", "unhealthy"})


def allowed(view: DeploymentView, need: Need) -> Exclusion | None:
    """The class, or the sender by name, says who may serve; and who can: tools, images, a context that holds it."""
    return may_serve(view.deployment, need)


def may_serve(deployment: Deployment, need: Need) -> Exclusion | None:
    """What can be told of a deployment without looking at its state."""
    request = need.request
    if need.forced is not None:
        if need.forced not in (deployment.name, deployment.group, deployment.model):
            return Exclusion(deployment.name, "not_allowed", f"the request asks for {need.forced}")
    elif not serves(need.request_class, deployment):
        return Exclusion(deployment.name, "not_allowed", f"class {need.request_class.name} does not list it")
    if not request.needs <= deployment.capabilities:
        missing = ", ".join(sorted(request.needs - deployment.capabilities))
        return Exclusion(deployment.name, "lacks_capability", missing)
    if deployment.context_tokens is not None and request.input_tokens > deployment.context_tokens:
        detail = f"{request.input_tokens} > {deployment.context_tokens} tokens"
        return Exclusion(deployment.name, "context_too_long", detail)
    return None


def serves(request_class: RequestClass, deployment: Deployment) -> bool:
    """Whether the class lists this deployment by name, group, model or tier; an empty list means any."""
    names = request_class.deployments
    if not names:
        return True
    return any(n in (deployment.name, deployment.group, deployment.model, deployment.tier.value) for n in names)


def untried(view: DeploymentView, need: Need) -> Exclusion | None:
    """A deployment that failed this request is not asked again while others are left."""
    if view.deployment.name in need.tried:
        return Exclusion(view.deployment.name, "tried", "it failed this request")
    return None


def healthy(view: DeploymentView, need: Need) -> Exclusion | None:
    """Circuit closed, or open for a probe, and not throttled."""
    if view.blocked:
        return Exclusion(view.deployment.name, "unhealthy", view.blocked)
    return None


def affordable(view: DeploymentView, need: Need) -> Exclusion | None:
    """The class's bound on what one request may cost."""
    bound = need.request_class.budget_usd_per_request
    if bound is not None and view.cost_usd > bound:
        return Exclusion(view.deployment.name, "too_dear", f"USD {view.cost_usd:.6f} > {bound:.6f}")
    return None


def has_quota(view: DeploymentView, need: Need) -> Exclusion | None:
    """Reserved tokens are left."""
    if need.unlimited:
        return None
    if not view.quota_fits:
        return Exclusion(view.deployment.name, "exceeds_quota", "one minute's tokens would not hold it")
    if not view.quota_ok:
        return Exclusion(view.deployment.name, "no_quota", "the token buckets are empty")
    return None


def has_room(view: DeploymentView, need: Need) -> Exclusion | None:
    """The concurrency limit is not reached."""
    if view.limit is None or need.unlimited:
        return None
    used = view.load.sequences + view.load.waiting_sequences
    if used >= view.limit:
        return Exclusion(view.deployment.name, "at_limit", f"{used} in flight, limit {view.limit:.0f}")
    return None


STANDARD: tuple[Filter, ...] = (allowed, untried, healthy, affordable, has_quota, has_room)
REACHABLE: tuple[Filter, ...] = (allowed, untried)
"""For baselines: nothing but what would be an error."""
