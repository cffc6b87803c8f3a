"""The `aws` part of a deployment: what it means, what is refused where, and what an edit of it changes."""

from __future__ import annotations

import msgspec
import pytest

from router.domain.aws.terms import Api, AwsTerms, CacheTerms, CallQuota, Guardrail, Latency, Payload
from router.domain.deployment import Deployment, Kind, Lane
from router.policy.compile import compile_policy
from router.policy.meaning.aws import AWS, QUOTA
from router.policy.meaning.compare import changes
from router.policy.policy import Policy
from tests.unit.policy_mistakes import Mistake, told_once

PRICE = "price_usd_per_mtok: {input: 1, output: 5}"
MODEL = f"model: llama-3.1-8b, tier: small, {PRICE}"
HEAD = f"deployments:\n  - {{name: x, {MODEL}, "
ARN = "arn:aws:bedrock:us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/router"


def policy(rest: str) -> Policy:
    return compile_policy([("p.yaml", f"{HEAD}{rest}}}\n")])


def one(rest: str) -> Deployment:
    (found,) = policy(rest).deployments
    return found


def test_everything_that_bedrock_has_is_compiled() -> None:
    """Names, durations and defaults as the document spells them; a version may be a bare number."""
    terms = one(
        f"backend: bedrock, target: m, context_tokens: 200000, aws: {{role_arn: '{ROLE}', latency: optimized, "
        "guardrail: {id: gr1, version: 1, trace: true}, count_tokens: true, cache: {ttl: 1h}, "
        "quota: {requests_per_min: 1000, tokens_per_min: 2000000, output_burndown: 5}}"
    ).address.aws
    assert terms == AwsTerms(
        role_arn=ROLE,
        latency=Latency.OPTIMIZED,
        guardrail=Guardrail("gr1", "1", trace=True),
        count_tokens=True,
        cache=CacheTerms(3600.0),
        quota=CallQuota(1000.0, 2e6, 5.0),
    )


def test_everything_that_sagemaker_has_is_compiled() -> None:
    """A variant, a body and sticky sessions."""
    terms = one("backend: sagemaker, target: endpoint, aws: {variant: green, payload: tgi, sticky: true}").address.aws
    assert terms == AwsTerms(variant="green", payload=Payload.TGI, sticky=True)


def test_who_says_nothing_has_nothing() -> None:
    """Without `aws` the address holds none, so that nothing is looked at on the way of a call."""
    assert one("backend: bedrock, target: m").address.aws is None
    assert one("backend: simulated").address.aws is None


@pytest.mark.parametrize("lane", ["priority", "flex"])
def test_a_service_tier_is_a_lane_of_bedrock(lane: str) -> None:
    """The same model may be listed once for each tier."""
    assert one(f"backend: bedrock, target: m, lane: {lane}").lane == lane


def test_the_reserved_tier_is_provisioned() -> None:
    """Its tokens a minute are paid by the hour."""
    found = one(
        "backend: bedrock, target: m, kind: provisioned, lane: reserved, hourly_usd: 9, "
        "tokens_per_min: {input: 100000, output: 10000}"
    )
    assert (found.lane, found.kind) == (Lane.RESERVED, Kind.PROVISIONED)


def test_invoke_may_name_its_payload() -> None:
    """Only there is the body the model's own."""
    terms = one("backend: bedrock, target: m, aws: {api: invoke, payload: mistral}").address.aws
    assert terms == AwsTerms(api=Api.INVOKE, payload=Payload.MISTRAL)


def mistake(rest: str, field: str, message: str) -> Mistake:
    return Mistake(f"deployments:\n  - {{name: x, {MODEL}, {rest}}}\n", f"deployments[0].{field}", message)


BEDROCK = "backend: bedrock, target: m"
MISTAKES = {
    "not on AWS": mistake("backend: simulated, ▸aws: {sticky: true}", "aws", "means nothing to the backend simulated"),
    "SageMaker's on Bedrock": mistake(
        f"{BEDROCK}, aws: {{▸variant: green}}", "aws.variant", "`variant` is only for SageMaker"
    ),
    "Bedrock's on SageMaker": mistake(
        "backend: sagemaker, target: e, aws: {▸latency: optimized}", "aws.latency", "is only for Amazon Bedrock"
    ),
    "an endpoint without a name": Mistake(
        f"deployments:\n  - ▸{{name: x, {MODEL}, backend: sagemaker}}\n", "deployments[0]", "needs `target`"
    ),
    "two kinds of capacity": mistake(
        f"{BEDROCK}, lane: flex, aws: {{latency: ▸optimized}}",
        "aws.latency",
        "and the lane flex are different capacity",
    ),
    "optimized and reserved": mistake(
        f"{BEDROCK}, kind: provisioned, hourly_usd: 1, aws: {{latency: ▸optimized}}",
        "aws.latency",
        "only on-demand calls can be latency-optimised",
    ),
    "a guardrail without version": mistake(
        f"{BEDROCK}, aws: {{guardrail: ▸{{id: gr1}}}}", "aws.guardrail", "missing required field `version`"
    ),
    "a version that is none": mistake(
        f"{BEDROCK}, aws: {{guardrail: {{id: gr1, version: ▸latest}}}}", "aws.guardrail.version", "or DRAFT"
    ),
    "a role that is none": mistake(f"{BEDROCK}, aws: {{role_arn: ▸router}}", "aws.role_arn", "the ARN of a role"),
    "a body that Converse does not have": mistake(
        f"{BEDROCK}, aws: {{▸payload: llama}}", "aws.payload", "drop `payload`, or add `api: invoke`"
    ),
    "a body of another service": mistake(
        f"{BEDROCK}, aws: {{api: invoke, payload: ▸tgi}}", "aws.payload", "no model on Amazon Bedrock"
    ),
    "a cache for an afternoon": mistake(f"{BEDROCK}, aws: {{cache: {{ttl: ▸4h}}}}", "aws.cache.ttl", "5m or for 1h"),
    "a quota of what is paid for": mistake(
        f"{BEDROCK}, kind: provisioned, hourly_usd: 1, aws: {{▸quota: {{}}}}", "aws.quota", "`tokens_per_min`"
    ),
    "counts for nothing": mistake(f"{BEDROCK}, aws: {{▸count_tokens: true}}", "aws.count_tokens", "`context_tokens`"),
    "component and variant": mistake(
        "backend: sagemaker, target: e, aws: {▸variant: v, component: c}", "aws.variant", "keep `component`"
    ),
    "reserved elsewhere": mistake("backend: simulated, lane: ▸reserved", "lane", "a service tier of Amazon Bedrock"),
    "reserved by the call": mistake(f"{BEDROCK}, lane: ▸reserved", "lane", "write `kind: provisioned`"),
    "a body of no container": mistake(
        "backend: sagemaker, target: e, aws: {payload: ▸llama}", "aws.payload", "no model on SageMaker"
    ),
    "chat by the list": mistake(
        "backend: sagemaker, target: e, kind: batch, batch_ms: {base: 1, per_item: 1}, aws: {payload: ▸openai}",
        "aws.payload",
        "write `payload: jumpstart`",
    ),
    "a container by its name": mistake(
        "backend: sagemaker, target: e, aws: {payload: ▸vllm}", "aws.payload", "write `openai`"
    ),
    "a model's name": mistake("backend: bedrock, target: ▸Claude 3.5 Haiku", "target", "no model id"),
    "an ARN of something else": mistake(
        f"backend: bedrock, target: ▸'{ROLE}'", "target", "this ARN is none of Amazon Bedrock"
    ),
    "an ARN of another region": mistake(
        f"backend: bedrock, region: ▸us-west-2, target: '{ARN}:application-inference-profile/abcd'",
        "region",
        "is of us-east-1",
    ),
    "reserved, priced by the token": mistake(
        f"backend: bedrock, target: ▸'{ARN}:provisioned-model/abcd'", "target", "add `kind: provisioned`"
    ),
    "a job on what is reserved": mistake(
        f"backend: bedrock, kind: job, target: ▸'{ARN}:provisioned-model/abcd', "
        f"job: {{s3: 's3://bucket/x', role_arn: '{ROLE}'}}",
        "target",
        "a batch job takes no provisioned-model",
    ),
    "an imported model by Converse": mistake(
        f"backend: bedrock, target: ▸'{ARN}:imported-model/abcd'", "target", "write `aws: {api: invoke}`"
    ),
    "an endpoint by its ARN": mistake(
        "backend: sagemaker, target: ▸'arn:aws:sagemaker:us-east-1:123456789012:endpoint/green'",
        "target",
        "write `target: green`",
    ),
    "an endpoint by nothing": mistake("backend: sagemaker, target: ▸my_endpoint", "target", "single hyphens"),
    "tiers of SageMaker": mistake("backend: sagemaker, target: e, ▸lane: flex", "lane", "no service tier flex"),
}


@pytest.mark.parametrize("wrong", MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_gives_one_message_at_its_place(wrong: Mistake) -> None:
    """File, line, column, path and a sentence that says what to write."""
    told_once(wrong)


def test_whose_body_it_is_must_be_known() -> None:
    """InvokeModel takes the model's own spelling: told from the id, else the model, else it must be written."""
    unknown = "deployments:\n  - {name: x, model: house-model, tier: small, " + PRICE
    told_once(
        Mistake(
            f"{unknown}, backend: bedrock, target: ▸acme.m1, aws: {{api: invoke}}}}",
            "deployments[0].target",
            "`payload`",
        )
    )
    told_once(
        Mistake(
            f"{unknown}, backend: bedrock, target: ▸'{ARN}:imported-model/abcd', aws: {{api: invoke}}}}",
            "deployments[0].target",
            "how `house-model` spells a body is not known",
        )
    )
    assert one(f"backend: bedrock, target: '{ARN}:imported-model/abcd', aws: {{api: invoke}}").address.aws is not None


@pytest.mark.parametrize(
    "target",
    [
        "us.anthropic.claude-3-5-haiku-20241022-v1:0",
        f"{ARN}:application-inference-profile/abc123",
        f"{ARN}:default-prompt-router/anthropic.claude:1",
        "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/marketplace",
    ],
)
def test_what_converse_takes_is_a_target(target: str) -> None:
    """Ids, profiles, prompt routers, and endpoints of Bedrock's marketplace."""
    assert one(f"backend: bedrock, target: '{target}'").address.target == target


def test_every_field_is_weighed() -> None:
    """A field that is added to the terms must be weighed, or this fails."""
    assert {rule.field for rule in AWS} | {"quota"} == set(AwsTerms.__struct_fields__)
    assert {rule.field for rule in QUOTA} == set(CallQuota.__struct_fields__)


def test_another_role_drains_and_another_quota_does_not() -> None:
    """What was learned of a deployment stands when only its allowance changes."""
    old = policy(f"{BEDROCK}, aws: {{quota: {{requests_per_min: 100}}}}")
    less = policy(f"{BEDROCK}, aws: {{quota: {{requests_per_min: 50}}}}")
    (change,) = changes(old, less)
    assert (change.move.field, change.move.direction, change.effect.how) == (
        "aws.quota.requests_per_min",
        "tightened",
        "live",
    )
    (other,) = changes(old, policy(f"{BEDROCK}, aws: {{role_arn: '{ROLE}', quota: {{requests_per_min: 100}}}}"))
    assert (other.move.field, other.effect.how) == ("aws.role_arn", "drain")


def test_saying_the_defaults_is_saying_nothing() -> None:
    """An empty `aws` changes nothing that holds."""
    assert changes(policy(BEDROCK), policy(f"{BEDROCK}, aws: {{}}")) == ()


def test_the_schema_for_editors_knows_the_fields() -> None:
    """The shipped schema is what editors complete from."""
    with open("policies/schema.json", "rb") as file:
        schema = msgspec.json.decode(file.read())
    assert set(schema["$defs"]["AwsSpec"]["properties"]) == set(AwsTerms.__struct_fields__)
