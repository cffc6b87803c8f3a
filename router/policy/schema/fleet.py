"""What a deployment may say: model, backend, capacity, price."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from router.domain.deployment import Kind, Lane, LimitKind, Mode, Sampling, Tier
from router.domain.request import Capability
from router.policy.schema.aws import AwsSpec
from router.policy.schema.job import JobSpec
from router.policy.schema.telemetry import TelemetrySpec
from router.policy.schema.values import ENV_NAME, URL, Amount, Count, Name, Spec, Text, Texts

Milliseconds = Annotated[float, Field(ge=0, le=1e9)]


class PriceSpec(Spec):
    """USD per million tokens."""

    input: Amount
    """USD per million input tokens."""
    output: Amount
    """USD per million output tokens."""
    cache_read: Amount | None = None
    """USD per million input tokens that come from a prompt cache; absent: as input."""
    cache_write: Amount | None = None
    """USD per million input tokens that are written to a prompt cache; absent: as input."""


class StepSpec(Spec):
    """Milliseconds of one server step: what it costs whatever is in it, and what each thing in it adds."""

    base: Milliseconds
    """Milliseconds of a step with nothing in it."""
    per_sequence: Milliseconds
    """Milliseconds for each sequence that is decoding."""
    per_context_token: Milliseconds
    """Milliseconds for each token of context held."""
    per_prefill_token: Milliseconds
    """Milliseconds for each prompt token taken in."""
    first: Milliseconds = 0.0
    """Milliseconds before each first token that are in no step, such as the network or the gateway of an API; a server
    that slows down does not stretch them."""


class BatchSpec(Spec):
    """Milliseconds of one batch of n items: base + per_item*n."""

    base: Milliseconds
    """Milliseconds of a batch, however small."""
    per_item: Milliseconds
    """Milliseconds for each item."""


class QuotaSpec(Spec):
    """Tokens a minute of reserved capacity."""

    input: Annotated[float, Field(gt=0, le=1e12)]
    """Input tokens a minute."""
    output: Annotated[float, Field(gt=0, le=1e12)]
    """Output tokens a minute."""


class LimitSpec(Spec):
    """How many calls, and how many tokens, may be on a deployment at once, and what decides it."""

    kind: LimitKind = LimitKind.STEP_MODEL
    """step_model: the batch that the learned latency model says just keeps the time per output token; aimd: one more
    while objectives are met, less as they are not; gradient: follows the ratio of allowed to observed pace; fixed:
    `requests`."""
    requests: Count | None = None
    """Calls at once: the limit itself where it is fixed, else where it begins."""
    tokens: Count | None = None
    """Most tokens at once, contexts and waiting prompts together, such as what the server's KV cache holds; absent: the
    router finds out by being refused."""


class DeploymentSpec(Spec):
    """One routable copy of a model."""

    name: Name
    """Unique name; a request may force it as `model`. Replicas are called name-0, name-1 ... and share the
    group `name`."""
    model: Text
    """Model name; quality is learned and prices are looked up by it."""
    tier: Tier
    """A prior about quality, never a rule about speed."""
    kind: Kind = Kind.CONTINUOUS
    """continuous: joins requests step by step (vLLM, on-demand APIs); batch: one formed batch at a time;
    provisioned: reserved capacity paid by the hour and bounded by tokens a minute; job: what has hours is collected
    into batch jobs on Bedrock."""
    replicas: Annotated[int, Field(ge=1, le=256)] = 1
    """Copies, each routable on its own."""
    backend: Literal["openai_http", "bedrock", "sagemaker", "simulated"]
    """How it is called."""
    target: Text | None = None
    """Model id there: served model name, SageMaker endpoint, or Bedrock model id, inference profile, prompt router or
    provisioned ARN; absent means `model`."""
    url: Annotated[str, Field(pattern=URL)] | None = None
    """Base address of an OpenAI-compatible server, such as http://host:8000/v1; `{replica}` stands for the
    number of the copy."""
    region: Text | None = None
    """AWS region; absent means the SDK's own default."""
    api_key_env: Annotated[str, Field(pattern=ENV_NAME)] | None = None
    """Environment variable that holds the key; keys are never written here."""
    api_key_file: Text | None = None
    """File that holds the key, such as a mounted secret; a key put there later is taken up without a restart."""
    ca_file: Text | None = None
    """File of the certificate authority to trust; another one put there later is taken up without a restart."""
    price_usd_per_mtok: PriceSpec | None = None
    """USD per million tokens; absent means the price of the model under `prices`, or what ships with the router."""
    price_factor: Annotated[float, Field(gt=0, le=100)] = 1.0
    """What the price of the model is multiplied by in this lane, such as 0.5 for flex. A call that is served in the
    default lane all the same is priced without it."""
    hourly_usd: Amount | None = None
    """USD an hour of reserved capacity, or of the instances behind a SageMaker endpoint, paid whether used or not."""
    tokens_per_min: QuotaSpec | None = None
    """What reserved capacity may take in and give out; absent: the router finds out by being throttled."""
    profile: Text | None = None
    """Model whose shipped step figures are where learning starts; absent means `model`."""
    step_ms: StepSpec | None = None
    """Own step figures in place of a profile."""
    step_token_budget: Count = 2048
    """Tokens that the server takes into one step."""
    batch_ms: BatchSpec | None = None
    """Figures of a batch deployment."""
    max_items: Count = 1
    """Most items in one batch."""
    max_in_flight: Count | None = None
    """Most calls at once, whatever the controller would allow."""
    limit: LimitSpec | None = None
    """What decides how many calls it may have at once; absent: step_model."""
    context_tokens: Count | None = None
    """Longest prompt and answer together, in tokens."""
    capabilities: tuple[Capability, ...] = tuple(Capability)
    """What it can do besides plain text; absent means everything."""
    tags: Texts = ()
    """Free labels, such as where data stays."""
    lane: Lane | None = None
    """Service tier that it is called at. A model may be listed once for each: what has time goes to the cheap slow one.
    priority and flex go out as `service_tier`; reserved is Bedrock's reserved tier, of kind provisioned; absent:
    default, and for those kinds provisioned and batch."""
    derived_from: Text | None = None
    """Model that this one was fine-tuned, distilled or quantised from: quality and speed start where its are."""
    optimizations: Texts = ()
    """What was done to it, such as quantization-awq, speculative-decoding or compilation-neuron: what is learned of its
    base holds for it at first, for a quantised one with wider doubt, but not after fine-tuning or distillation."""
    mode: Mode | None = None
    """advise: its limit stays where it is configured, its capacity has no price, and what both would be is said;
    absent: as the document says."""
    takes: tuple[Sampling, ...] | None = None
    """Sampling parameters that may be filled in where a request is silent; absent: temperature, top_p, max_tokens, and
    on Bedrock top_k. Add top_k for servers such as vLLM and Ollama; name max_completion_tokens, and no temperature, for
    models of OpenAI that reason."""
    job: JobSpec | None = None
    """Of a deployment of kind job: where its batch jobs are kept and how long they are collected."""
    aws: AwsSpec | None = None
    """For Bedrock and SageMaker: role, operation, latency, guardrail, quota, prompt cache, variant."""
    telemetry: TelemetrySpec | None = None
    """Where a server of one's own tells its load, so that what others send to it counts too."""
