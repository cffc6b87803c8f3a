"""How a deployment on Bedrock or SageMaker is called, beyond its address."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Api(StrEnum):
    """Which operation of Bedrock carries a call: Converse, or InvokeModel for models that Converse does not take."""

    CONVERSE = "converse"
    INVOKE = "invoke"


class Payload(StrEnum):
    """How a body is spelled where the service passes it through to the model."""

    ANTHROPIC = "anthropic"
    LLAMA = "llama"
    MISTRAL = "mistral"
    TITAN = "titan"
    NOVA = "nova"
    OPENAI = "openai"
    """Chat completions: vLLM, LMI, and models imported in that shape."""
    TGI = "tgi"
    JUMPSTART = "jumpstart"


class Latency(StrEnum):
    """Bedrock's `performanceConfig.latency`."""

    STANDARD = "standard"
    OPTIMIZED = "optimized"


class Guardrail(Struct, frozen=True):
    """A guardrail to apply to every call."""

    id: str
    version: str
    trace: bool = False


class CallQuota(Struct, frozen=True):
    """On-demand capacity: what the account may ask for in a minute, `None` where it is found out by being throttled.

    Tokens are reserved at the start as input, cache and `max_tokens` together and settled at the end, an output token
    counting `output_burndown` times. A call without `max_tokens` reserves `max_output_tokens`, the model's longest
    answer.
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    output_burndown: float = 1.0
    max_output_tokens: int = 4096


class CacheTerms(Struct, frozen=True):
    """Prompt caching: how long the service keeps a prefix, and the fewest tokens it takes."""

    ttl_s: float = 300.0
    min_tokens: int = 1024
    max_points: int = 4


class AwsTerms(Struct, frozen=True):
    """`role_arn` is assumed for the calls. `variant`, `component` and `sticky` (a session keeps to one instance) are
    SageMaker's; the rest but `payload` is Bedrock's. `payload` is `None` where it is told from the model's name."""

    role_arn: str | None = None
    api: Api = Api.CONVERSE
    payload: Payload | None = None
    latency: Latency = Latency.STANDARD
    guardrail: Guardrail | None = None
    count_tokens: bool = False
    quota: CallQuota | None = None
    cache: CacheTerms | None = None
    variant: str | None = None
    component: str | None = None
    sticky: bool = False
