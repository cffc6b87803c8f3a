"""The `aws` part of a deployment as written to `AwsTerms`, and what in it cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.aws.terms import AwsTerms, CacheTerms, CallQuota, Guardrail, Latency, Payload
from router.domain.deployment import Kind, Lane
from router.domain.errors import PolicyError
from router.policy.parse import Path, Source
from router.policy.schema.aws import AwsSpec
from router.policy.schema.fleet import DeploymentSpec

BACKENDS = ("bedrock", "sagemaker")
_SERVICE = {"bedrock": "Amazon Bedrock", "sagemaker": "SageMaker"}
_ONLY_ON = {
    "bedrock": ("api", "latency", "guardrail", "count_tokens", "quota", "cache"),
    "sagemaker": ("variant", "component", "sticky"),
}
_PAYLOADS = {
    "bedrock": frozenset(Payload) - {Payload.TGI, Payload.JUMPSTART},
    "sagemaker": frozenset({Payload.OPENAI, Payload.TGI, Payload.JUMPSTART}),
}
_NOT_OPTIMIZED = (Lane.PRIORITY, Lane.FLEX, Lane.RESERVED)


def aws_terms(spec: DeploymentSpec) -> AwsTerms | None:
    """How the deployment is called; `None` where it says nothing about it."""
    own = spec.aws
    if own is None:
        return None
    guardrail, quota, cache = own.guardrail, own.quota, own.cache
    return AwsTerms(
        role_arn=own.role_arn,
        api=own.api,
        payload=own.payload,
        latency=own.latency,
        guardrail=None if guardrail is None else Guardrail(guardrail.id, guardrail.version, guardrail.trace),
        count_tokens=own.count_tokens,
        quota=None
        if quota is None
        else CallQuota(quota.requests_per_min, quota.tokens_per_min, quota.output_burndown, quota.max_output_tokens),
        cache=None if cache is None else CacheTerms(cache.ttl, cache.min_tokens, cache.max_points),
        variant=own.variant,
        component=own.component,
        sticky=own.sticky,
    )


def unfit_aws(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """What the `aws` part asks for that its backend does not offer, or that does not go together."""
    own, here = spec.aws, (*path, "aws")
    if own is None:
        return
    if spec.backend not in BACKENDS:
        message = f"`aws` means nothing to the backend {spec.backend}: drop it, or write `backend: bedrock`"
        yield source.problem(here, message, key=True)
        return
    yield from (
        source.problem((*here, field), f"`{field}` is only for {_SERVICE[backend]}: drop it", key=True)
        for backend in BACKENDS
        for field in _ONLY_ON[backend]
        if backend != spec.backend and field in own.model_fields_set
    )
    yield from _unfit_payload(source, here, spec, own)
    yield from _unfit_capacity(source, here, spec, own)
    if own.count_tokens and spec.context_tokens is None:
        message = "counts are held against the context window: add `context_tokens` to the deployment"
        yield source.problem((*here, "count_tokens"), message, key=True)
    if own.variant is not None and own.component is not None:
        message = "an inference component has its own variant: keep `component` or `variant`"
        yield source.problem((*here, "variant"), message, key=True)


def unfit_tier(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """A service tier that the backend does not have."""
    lane, here = spec.lane, (*path, "lane")
    if lane is Lane.RESERVED and spec.backend != "bedrock":
        message = "the lane reserved is a service tier of Amazon Bedrock: write `backend: bedrock`, or another lane"
        yield source.problem(here, message)
    elif lane is Lane.RESERVED and spec.kind is not Kind.PROVISIONED:
        message = "tokens a minute of the lane reserved are paid by the hour: write `kind: provisioned`"
        yield source.problem(here, message)
    elif lane in (Lane.PRIORITY, Lane.FLEX) and spec.backend == "sagemaker":
        yield source.problem(here, f"SageMaker has no service tier {lane}: drop `lane`", key=True)


def _unfit_payload(source: Source, here: Path, spec: DeploymentSpec, own: AwsSpec) -> Iterator[PolicyError]:
    if own.payload is None:
        return
    if own.payload not in _PAYLOADS[spec.backend]:
        known = ", ".join(sorted(_PAYLOADS[spec.backend]))
        message = f"no model on {_SERVICE[spec.backend]} spells its body as {own.payload}: write one of {known}"
        yield source.problem((*here, "payload"), message)
    elif spec.backend == "sagemaker" and spec.kind is Kind.BATCH and own.payload is Payload.OPENAI:
        message = "chat completions are not taken by the list: write `payload: jumpstart`, or another `kind`"
        yield source.problem((*here, "payload"), message)
    elif spec.backend == "bedrock" and own.api == "converse":
        message = "Converse has one spelling for all models: drop `payload`, or add `api: invoke`"
        yield source.problem((*here, "payload"), message, key=True)


def _unfit_capacity(source: Source, here: Path, spec: DeploymentSpec, own: AwsSpec) -> Iterator[PolicyError]:
    """Optimised latency, service tiers, reserved capacity and on-demand quota are different capacity."""
    if own.latency is Latency.OPTIMIZED and spec.lane in _NOT_OPTIMIZED:
        message = f"optimized latency and the lane {spec.lane} are different capacity: keep one of them"
        yield source.problem((*here, "latency"), message)
    elif own.latency is Latency.OPTIMIZED and spec.kind is not Kind.CONTINUOUS:
        message = (
            f"only on-demand calls can be latency-optimised: drop it, or list the model again without `{spec.kind}`"
        )
        yield source.problem((*here, "latency"), message)
    if own.quota is not None and spec.kind is Kind.PROVISIONED:
        message = "`quota` is of on-demand calls: what reserved capacity takes is `tokens_per_min` of the deployment"
        yield source.problem((*here, "quota"), message, key=True)
