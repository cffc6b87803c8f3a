"""What a deployment on Amazon Bedrock or SageMaker may say beyond its address."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from router.domain.aws.terms import Api, Latency, Payload
from router.policy.schema.values import Count, Spec, Text, read_duration

ROLE_ARN = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+$"
GUARDRAIL_VERSION = r"^([1-9][0-9]{0,7}|DRAFT)$"
_NUMBER_JSON = {"type": "integer", "minimum": 1, "maximum": 99_999_999}
_TTLS = {300.0: "5m", 3600.0: "1h"}
PerMinute = Annotated[float, Field(gt=0, le=1e12)]


def _read_ttl(value: Any) -> float:
    seconds = read_duration(value)
    if seconds not in _TTLS:
        raise PydanticCustomError("ttl", "Bedrock keeps a prefix for 5m or for 1h: write one of them")
    return seconds


def _read_version(value: Any) -> Any:
    """YAML reads `version: 1` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _read_payload(value: Any) -> Any:
    if value in {"vllm", "lmi"}:
        raise PydanticCustomError("payload", "vLLM and LMI containers speak the OpenAI protocol: write `openai`")
    return value


Ttl = Annotated[float, BeforeValidator(_read_ttl), WithJsonSchema({"enum": [*_TTLS.values(), *map(int, _TTLS)]})]
Version = Annotated[
    str,
    Field(pattern=GUARDRAIL_VERSION),
    BeforeValidator(_read_version),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": GUARDRAIL_VERSION}, _NUMBER_JSON]}),
]


class GuardrailSpec(Spec):
    """A guardrail of Bedrock that every call goes through."""

    id: Text
    """Its identifier or ARN."""
    version: Version
    """Number of the version to apply, or DRAFT."""
    trace: bool = False
    """Have the service say what the guardrail found; costs bytes, and the trace is not kept."""


class CallQuotaSpec(Spec):
    """What the account may ask of on-demand capacity in a minute, as Service Quotas shows it."""

    requests_per_min: PerMinute | None = None
    """Calls a minute; absent: the router finds out by being throttled."""
    tokens_per_min: PerMinute | None = None
    """Tokens a minute, input and `max_tokens` together; absent: the router finds out by being throttled."""
    output_burndown: Annotated[float, Field(ge=1, le=100)] = 1.0
    """How many tokens of the quota one output token uses up, such as 5 for Claude from version 3.7 on."""
    max_output_tokens: Count = 4096
    """Longest answer of the model: what a call without `max_tokens` reserves of the quota while it runs."""


class PromptCacheSpec(Spec):
    """Prompt caching: the longest stable start of a prompt is kept by the service where that pays."""

    ttl: Ttl = 300.0
    """How long the service keeps a prefix after its last use: 5m, or 1h for models that offer it."""
    min_tokens: Count = 1024
    """Fewest tokens of a prefix that the model takes."""
    max_points: Annotated[int, Field(ge=1, le=4)] = 4
    """Most places in one request where a prefix may end."""


class AwsSpec(Spec):
    """How a deployment on Bedrock or SageMaker is called, beyond its address."""

    role_arn: Annotated[str, Field(pattern=ROLE_ARN)] | None = None
    """Role that is assumed for the calls, such as one in another account; absent: the credentials of the process."""
    api: Api = Api.CONVERSE
    """Bedrock: converse, or invoke (InvokeModel) for models that Converse does not take."""
    payload: Annotated[Payload | None, BeforeValidator(_read_payload)] = None
    """How the model spells a body, where the service passes it through (SageMaker, and Bedrock with `api: invoke`);
    absent: told from the model's name, and on SageMaker openai, or jumpstart for a batch endpoint."""
    latency: Latency = Latency.STANDARD
    """Bedrock: optimized asks for latency-optimised inference. What is served standard all the same is priced so."""
    guardrail: GuardrailSpec | None = None
    """Bedrock: guardrail to apply to every call."""
    count_tokens: bool = False
    """Bedrock: where prompt and answer may not fit in `context_tokens`, have the service count the prompt first
    (CountTokens: free, but one more call), and ask for as long an answer as is left."""
    quota: CallQuotaSpec | None = None
    """Bedrock: on-demand quota of the account; deployments of one model, region and role should state the same."""
    cache: PromptCacheSpec | None = None
    """Bedrock: place cache points; absent: none are placed."""
    variant: Text | None = None
    """SageMaker: production variant to call; absent: the endpoint's own split."""
    component: Text | None = None
    """SageMaker: inference component to call."""
    sticky: bool = False
    """SageMaker: requests that name a `session` in their metadata go to one instance, where the model is stateful; the
    first answer of a session comes whole."""
