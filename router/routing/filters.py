"""Why can a deployment not serve this request?

Codes: `not_allowed`, `wrong_residency`, `lacks_capability`, `context_too_long`, `tried`, `unhealthy`, `too_dear`,
`budget_spent`, `exceeds_quota`, `no_quota`, `at_limit`, `job_too_slow`; and of those that stand,
`later_fallback` for what comes later in a fallback order and `over_pace` for what the mean budget of the class cannot
bear now (`core.spending.paces`).
The codes in `PASSING` pass by themselves: a request that only they keep out may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from router.domain.decision import Exclusion
from router.domain.deployment import Deployment, Kind
from router.domain.request import Capability, Request
from router.domain.slo import RequestClass
from router.domain.view import DeploymentView
from router.routing.need import Need

Filter = Callable[[DeploymentView, Need], Exclusion | None]

_MOSTLY = 0.9
"""P(in time) under which no request is put into a batch job."""

PASSING = frozenset({"at_limit", "no_quota", "unhealthy"})


def bar(
    deployment: Deployment, forced: str | None, needs: frozenset[Capability], request_class: RequestClass
) -> Exclusion | None:
    """What keeps a deployment from all requests of a kind: who may serve is said by the class, or by the sender by
    name; who can, by what it is able to do. Where data may go is said by the class alone, whatever the sender names."""
    if forced is not None:
        if forced not in (deployment.name, deployment.group, deployment.model):
            asking = "request" if request_class.forced is None else "class"
            return Exclusion(deployment.name, "not_allowed", f"the {asking} asks for {forced}")
    elif not lists(request_class, deployment):
        return Exclusion(deployment.name, "not_allowed", f"class {request_class.name} does not list it")
    missing = [tag for tag in request_class.residency if tag not in deployment.tags]
    if missing:
        detail = f"data of class {request_class.name} stays where the tag is {', '.join(missing)}"
        return Exclusion(deployment.name, "wrong_residency", detail)
    if not needs <= deployment.capabilities:
        return Exclusion(deployment.name, "lacks_capability", ", ".join(sorted(needs - deployment.capabilities)))
    return None


def holds(deployment: Deployment, request: Request) -> bool:
    """Whether the prompt fits the context window."""
    return deployment.context_tokens is None or request.input_tokens <= deployment.context_tokens


def fits_context(view: DeploymentView, need: Need) -> Exclusion | None:
    """The context window holds the prompt."""
    deployment, request = view.deployment, need.request
    if deployment.context_tokens is None or holds(deployment, request):
        return None
    detail = f"{request.input_tokens} > {deployment.context_tokens} tokens"
    return Exclusion(deployment.name, "context_too_long", detail)


def serves(request_class: RequestClass, deployment: Deployment) -> bool:
    """Whether the class lets this deployment serve requests that need nothing special and ask for none by name."""
    return bar(deployment, request_class.forced, frozenset(), request_class) is None


def may_see(request_class: RequestClass, deployment: Deployment) -> bool:
    """Whether data of the class may go there."""
    return all(tag in deployment.tags for tag in request_class.residency)


def lists(request_class: RequestClass, deployment: Deployment) -> bool:
    """Whether the class lists this deployment by name, group, model or tier; an empty list means any."""
    names = request_class.deployments
    if not names:
        return True
    return any(n in (deployment.name, deployment.group, deployment.model, deployment.tier.value) for n in names)


def untried(view: DeploymentView, need: Need) -> Exclusion | None:
    """A deployment that failed this request, or whose answer is made again elsewhere, is not asked again while others
    are left."""
    if view.deployment.name in need.tried:
        return Exclusion(view.deployment.name, "tried", "called before, or too late or too dear for a second call")
    return None


def healthy(view: DeploymentView, need: Need) -> Exclusion | None:
    """Circuit closed, or open for a probe, and not throttled."""
    if view.blocked:
        return Exclusion(view.deployment.name, "unhealthy", view.blocked)
    return None


def affordable(view: DeploymentView, need: Need) -> Exclusion | None:
    """The class's bound on what one request may cost."""
    bound = need.request_class.budget.usd_per_request
    if bound is not None and view.cost_usd > bound:
        return Exclusion(view.deployment.name, "too_dear", f"USD {view.cost_usd:.6f} > {bound:.6f}")
    return None


def within_budget(view: DeploymentView, need: Need) -> Exclusion | None:
    """What is left of the day's budget of the class holds what the call may cost. Asked before all other filters, and
    only for classes that have such a budget: what else keeps the deployment out for good is not in `Purse.short`."""
    purse, name = need.purse, view.deployment.name
    if purse is None or name not in purse.short:
        return None
    return Exclusion(name, "budget_spent", f"it may cost USD {purse.short[name]:.6f}: {purse.stand()}")


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
    """The limits on calls and on tokens at once are not reached; what is idle has room for one, whatever its size."""
    if view.limit is None or need.unlimited:
        return None
    used = view.load.sequences + view.load.waiting_sequences
    if used >= view.limit * need.room:
        return Exclusion(view.deployment.name, "at_limit", f"{used} in flight, limit {view.limit:.0f}")
    if view.token_limit is not None and used:
        tokens = view.load.context_tokens + view.load.waiting_tokens + need.request.input_tokens
        if tokens > view.token_limit * need.room:
            detail = f"{tokens:.0f} tokens with this request, limit {view.token_limit:.0f}"
            return Exclusion(view.deployment.name, "at_limit", detail)
    return None


def has_hours(view: DeploymentView, need: Need) -> Exclusion | None:
    """What waits for a batch job will be in time all the same. Asked last."""
    if view.deployment.kind is not Kind.JOB or view.p_slo >= _MOSTLY:
        return None
    detail = f"a job takes about {view.e2e_s:.0f} s: in time with probability {view.p_slo:.2f}, {_MOSTLY:g} is asked"
    return Exclusion(view.deployment.name, "job_too_slow", detail)


def concerning(
    filters: tuple[Filter, ...], deployments: Sequence[Deployment], *, is_bounded: bool
) -> tuple[Filter, ...]:
    """Those of the filters that can keep one of these deployments from a request, and `has_hours` where there are lanes
    of batch jobs. `is_bounded`: the tokens a minute of one of them are."""
    idle: set[Filter] = set()
    if all(d.context_tokens is None for d in deployments):
        idle.add(fits_context)
    if not is_bounded:
        idle.add(has_quota)
    concerned = tuple(test for test in filters if test not in idle)
    return (*concerned, has_hours) if any(d.kind is Kind.JOB for d in deployments) else concerned


def biting(filters: tuple[Filter, ...], need: Need) -> tuple[Filter, ...]:
    """Those of the filters that can keep anybody from this request, and the day's budget before them where there is
    one."""
    if need.purse is not None:
        return (within_budget, *filters)
    if need.tried or need.request_class.budget.usd_per_request is not None:
        return filters
    return _of_most(filters)


@cache
def _of_most(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    return tuple(test for test in filters if test not in (untried, affordable))


STANDARD: tuple[Filter, ...] = (fits_context, untried, healthy, affordable, has_quota, has_room)
REACHABLE: tuple[Filter, ...] = (fits_context, untried)
"""For baselines: nothing but what would be an error."""
