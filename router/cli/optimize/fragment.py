"""The policy of a variant: a deployment that may be put beside its base, and how to try it in the shadow first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from router.backends.aws.control.optimization import Job
from router.backends.aws.control.optimization_plan import OptimizationPlan
from router.domain.deployment import Deployment
from router.domain.errors import RouterError
from router.domain.slo import RequestClass
from router.policy.policy import Policy
from router.routing.filters import serves


def base_of(policy: Policy, name: str) -> Deployment:
    """The deployment to make a variant of; raises `RouterError` where AWS could not."""
    found = next((d for d in policy.deployments if name in (d.name, d.group)), None)
    if found is None:
        names = ", ".join(d.name for d in policy.deployments if d.address.backend == "sagemaker")
        raise RouterError(f"no deployment is called `{name}`; on SageMaker there are: {names or 'none'}")
    if found.address.backend != "sagemaker":
        raise RouterError(f"`{name}` has the backend {found.address.backend}: SageMaker optimises what it hosts itself")
    return found


def optimized_name(plan: OptimizationPlan) -> str:
    """Name of the variant's deployment."""
    return f"{plan.deployment}-{plan.optimization}"[:63]


def fragment_of(plan: OptimizationPlan, job: Job, policy: Policy) -> str:
    """A policy file with the variant's deployment; its comments say how to host it and how to keep it in the shadow."""
    base = base_of(policy, plan.deployment)
    body: str = yaml.safe_dump({"deployments": [_written(plan, base)]}, sort_keys=False, width=110)
    return "\n".join(_comments(plan, job, base, policy.classes)) + "\n" + body


def _written(plan: OptimizationPlan, base: Deployment) -> dict[str, Any]:
    price = base.price
    written: dict[str, Any] = {
        "name": optimized_name(plan),
        "model": f"{base.model}-{plan.optimization}",
        "tier": base.tier.value,
        "backend": "sagemaker",
        "target": optimized_name(plan),
        "derived_from": base.model,
        "optimizations": [*base.optimizations, plan.optimization],
        "price_usd_per_mtok": {"input": price.input_usd_per_mtok, "output": price.output_usd_per_mtok},
    }
    aws = base.address.aws
    terms = {} if aws is None else {"role_arn": aws.role_arn, "payload": aws.payload and aws.payload.value}
    optional = {
        "region": plan.region,
        "url": base.address.url,
        "hourly_usd": price.hourly_usd or None,
        "context_tokens": base.context_tokens,
        "tags": sorted(base.tags) or None,
        "aws": {key: value for key, value in terms.items() if value is not None} or None,
    }
    return written | {key: value for key, value in optional.items() if value is not None}


def _comments(plan: OptimizationPlan, job: Job, base: Deployment, classes: Sequence[RequestClass]) -> Iterator[str]:
    variant = optimized_name(plan)
    yield f"# {variant}: {base.model} after {plan.optimization}, by the job {job.name}."
    yield "#"
    yield f"# 1. Host it: an endpoint `{variant}` on {plan.instance_type}, with the model at {job.output}"
    yield f"#    and the image {job.image or 'of its base'}. Prices below are those of {base.name}: put in its own."
    yield "# 2. Before this file goes into fleet/ of the policy, see that no class sends to it unasked: those that list"
    yield "#    no deployments, or a tier, take any that there is."
    for one in classes:
        if serves(one, base):
            yield from _shadow(one, base, variant)
    yield f"# Its quality starts from that of {base.model}, its speed from what is documented of the technique;"
    yield "# both are learned as it serves. `router policy status` shows what the shadow compares."


def _shadow(request_class: RequestClass, base: Deployment, variant: str) -> Iterator[str]:
    """The two edits that keep a class as it is and compare it with one that has the variant."""
    listed = list(request_class.deployments)
    if not listed or base.tier.value in listed:
        told = "any deployment" if not listed else f"the tier {base.tier.value}"
        yield f"#    Class {request_class.name} lists {told}: list deployments by name first, then"
        listed = [base.group]
    else:
        yield f"#    Class {request_class.name}:"
    yield f"#      deployments: [{', '.join([*listed, variant])}]"
    yield "#      rollout: {mode: shadow}     # then canary, then live"
