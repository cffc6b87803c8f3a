"""What a `target` on Bedrock or SageMaker says of itself, and what beside it cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.domain.aws.terms import Api
from router.domain.deployment import Kind
from router.domain.errors import PolicyError
from router.policy.aws.compile import BACKENDS
from router.policy.parse import Path, Source
from router.policy.schema.fleet import DeploymentSpec
from router.wire.aws.invoke.families import payload_named

_BEDROCK_ARN = re.compile(r"^arn:aws(?:-[^:]+)?:bedrock:(?P<region>[a-z0-9-]+):[^:]*:(?P<what>[a-z-]+)/\S+$")
_REGION = re.compile(r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$")
_MODEL_ID = re.compile(r"^[a-zA-Z0-9][-_.:a-zA-Z0-9]*$")
_NOT_FOR_JOBS = frozenset({"provisioned-model", "imported-model", "prompt-router", "default-prompt-router"})
_ENDPOINT = re.compile(r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
_IN_ADDRESS = re.compile(r"endpoints?/(?P<name>[-a-zA-Z0-9]+)")
"""ConversationalModelId, ModelId of CreateModelInvocationJob, and EndpointName in the service models of AWS."""


def unfit_target(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """A target or region that no call would find, or that is of another kind than what stands beside it."""
    if spec.backend in BACKENDS and spec.region is not None and _REGION.match(spec.region) is None:
        yield source.problem((*path, "region"), f"`{spec.region}` is no AWS region, such as us-east-1")
    if spec.target is None:
        return
    if spec.backend == "sagemaker" and _ENDPOINT.match(spec.target) is None:
        found = _IN_ADDRESS.search(spec.target)
        hint = f"write `target: {found['name']}`" if found else "letters, digits and single hyphens, 63 at most"
        yield source.problem((*path, "target"), f"SageMaker calls an endpoint by its name: {hint}")
    elif spec.backend == "bedrock" and spec.target.startswith("arn:"):
        yield from _unfit_arn(source, path, spec)
    elif spec.backend == "bedrock" and _MODEL_ID.match(spec.target) is None:
        message = "this is no model id, such as anthropic.claude-3-5-haiku-20241022-v1:0, and no ARN: `router prices` "
        yield source.problem((*path, "target"), message + "lists ids")
    elif _is_unspelt(spec):
        message = f"how `{spec.target}` spells a body is not known: add `payload` to `aws`"
        yield source.problem((*path, "target"), message)


def _unfit_arn(source: Source, path: Path, spec: DeploymentSpec) -> Iterator[PolicyError]:
    """Only what is Bedrock's own is looked at: an endpoint of its marketplace is SageMaker's."""
    here, target = (*path, "target"), spec.target or ""
    found = _BEDROCK_ARN.match(target)
    if found is None:
        if ":sagemaker:" not in target:
            yield source.problem(here, "this ARN is none of Amazon Bedrock: arn:aws:bedrock:REGION:ACCOUNT:...")
        return
    if spec.region is not None and found["region"] != spec.region:
        message = f"the ARN in `target` is of {found['region']}: write that, or drop `region`"
        yield source.problem((*path, "region"), message)
    if found["what"] in _NOT_FOR_JOBS and spec.kind is Kind.JOB:
        message = f"a batch job takes no {found['what']}: name the model by its id or an inference profile"
        yield source.problem(here, message)
    elif found["what"] == "provisioned-model" and spec.kind is not Kind.PROVISIONED:
        message = "this is provisioned throughput, paid by the hour: add `kind: provisioned` and `hourly_usd`"
        yield source.problem(here, message)
    elif found["what"] == "imported-model" and (spec.aws is None or spec.aws.api is Api.CONVERSE):
        message = "Converse does not take imported models: write `aws: {api: invoke}`, with `payload` where needed"
        yield source.problem(here, message)
    elif _is_unspelt(spec):
        yield source.problem(here, f"how `{spec.model}` spells a body is not known: add `payload` to `aws`")


def _is_unspelt(spec: DeploymentSpec) -> bool:
    """Whether the body of InvokeModel is the model's own, and nothing says whose."""
    own = spec.aws
    if (
        spec.backend != "bedrock"
        or own is None
        or own.api is not Api.INVOKE
        or spec.kind is Kind.JOB
        or own.payload is not None
    ):
        return False
    return payload_named(spec.target or "", spec.model) is None
