"""One routable copy of a model: model, backend, capacity, price."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from msgspec import Struct

from router.domain.aws.job import JobTerms
from router.domain.aws.terms import AwsTerms
from router.domain.request import Capability

if TYPE_CHECKING:
    from router.domain.outcome import Usage

DeploymentName = NewType("DeploymentName", str)


class Tier(StrEnum):
    """Which end of the price list a model stands at. A prior about quality, never a rule about speed."""

    SMALL = "small"
    LARGE = "large"


class Kind(StrEnum):
    """How a deployment takes work.

    `continuous` joins requests step by step (vLLM, on-demand APIs), `batch` takes one formed batch at a time,
    `provisioned` is reserved capacity paid by the hour and bounded by tokens a minute, `job` collects requests that
    have hours into batch jobs.
    """

    CONTINUOUS = "continuous"
    BATCH = "batch"
    PROVISIONED = "provisioned"
    JOB = "job"


class Lane(StrEnum):
    """At which service tier a deployment is called: the same model, sooner and dearer or later and cheaper.

    `priority`, `flex` and `reserved` (Bedrock's tokens a minute by the month) are asked for by name where the backend
    knows them, `default` by silence. `provisioned` and `batch` are what deployments of those kinds are in anyway.
    """

    PRIORITY = "priority"
    DEFAULT = "default"
    PROVISIONED = "provisioned"
    FLEX = "flex"
    RESERVED = "reserved"
    BATCH = "batch"


LANE_OF = {
    Kind.CONTINUOUS: Lane.DEFAULT,
    Kind.BATCH: Lane.BATCH,
    Kind.PROVISIONED: Lane.PROVISIONED,
    Kind.JOB: Lane.BATCH,
}
"""The lane of a deployment that names none."""


class LimitKind(StrEnum):
    """What decides how many calls a deployment may have in flight.

    `step_model` asks the latency model for the batch that just keeps the time per output token; `aimd` and `gradient`
    know nothing of the server and go by what is observed; `fixed` is a number.
    """

    STEP_MODEL = "step_model"
    AIMD = "aimd"
    GRADIENT = "gradient"
    FIXED = "fixed"


class Mode(StrEnum):
    """Whether what the controller finds is put in force, or only said."""

    ACT = "act"
    ADVISE = "advise"


class Sampling(StrEnum):
    """Sampling parameters that the router may fill in where a request is silent, by the name they go out under."""

    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


class Price(Struct, frozen=True):
    """USD per million tokens, and per hour for reserved capacity (paid whether used or not).

    Tokens read from and written to a prompt cache have their own prices; `None`: as input. `source` says where the
    figures are from.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    hourly_usd: float = 0.0
    cache_read_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None
    source: str = "policy"

    def cost_usd(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> float:
        """Dollars for one call's tokens, so many of the input read from a cache."""
        usd = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        if cached_tokens and self.cache_read_usd_per_mtok is not None:
            usd += cached_tokens * (self.cache_read_usd_per_mtok - self.input_usd_per_mtok)
        return usd * 1e-6

    def cost_of(self, usage: Usage) -> float:
        """Dollars for one call's tokens, those read from and written to a cache at their own prices."""
        usd = self.cost_usd(usage.input_tokens, usage.output_tokens)
        plain, read, write = self.input_usd_per_mtok, self.cache_read_usd_per_mtok, self.cache_write_usd_per_mtok
        if usage.cached_tokens and read is not None:
            usd += usage.cached_tokens * (read - plain) * 1e-6
        if usage.cache_written_tokens and write is not None:
            usd += usage.cache_written_tokens * (write - plain) * 1e-6
        return max(usd, 0.0)


class ServedPrice(Struct, frozen=True):
    """What a call costs that is `served` otherwise than asked: in a service tier, at a latency, or by the model that a
    prompt router chose (its plain name)."""

    served: str
    price: Price


class StepProfile(Struct, frozen=True):
    """Seconds of one server step: `base + per_sequence*B + per_context_token*ctx + per_prefill_token*P`.

    B sequences decode with ctx context tokens in all while P prompt tokens are taken in (Sarathi-Serve's chunked
    prefill; constants fitted per model, see `router.control.profiles`). `first_s` comes before each first token and is
    in no step: the network, a gateway.
    """

    base_s: float
    per_sequence_s: float
    per_context_token_s: float
    per_prefill_token_s: float
    step_token_budget: int = 2048
    source: str = "prior"
    first_s: float = 0.0


class BatchProfile(Struct, frozen=True):
    """Seconds of one batch of n items: `base + per_item*n`."""

    base_s: float
    per_item_s: float


class LimitTerms(Struct, frozen=True):
    """`requests`: the number itself where it is fixed, else where it begins. `tokens`: most tokens held at once,
    contexts and waiting prompts together; `None`: it is found out."""

    kind: LimitKind = LimitKind.STEP_MODEL
    requests: int | None = None
    tokens: int | None = None


class TokenQuota(Struct, frozen=True):
    """Tokens a minute that a reserved deployment may take in and give out."""

    input_tokens_per_min: float
    output_tokens_per_min: float


class TelemetryTerms(Struct, frozen=True):
    """How the server is asked for its own load: the address of its metrics, how often, and how long an answer is waited
    for. A bearer token is named, never held."""

    url: str
    every_s: float
    timeout_s: float
    api_key_env: str | None = None
    api_key_file: str | None = None


class Address(Struct, frozen=True):
    """Where and how a backend reaches the model. Secrets are named, never held.

    `backend` is a registry key (`openai_http`, `bedrock`, `simulated`); `target` is the model id, inference
    profile or provisioned ARN there; `api_key_env` names the environment variable that holds the key, `api_key_file`
    the file, which is read again when it changes.
    """

    backend: str
    target: str
    url: str | None = None
    region: str | None = None
    api_key_env: str | None = None
    ca_file: str | None = None
    api_key_file: str | None = None
    aws: AwsTerms | None = None


class Deployment(Struct, frozen=True):
    """One routable copy: model + backend + capacity + price."""

    name: DeploymentName
    group: str
    model: str
    tier: Tier
    kind: Kind
    address: Address
    price: Price
    step: StepProfile | None = None
    batch: BatchProfile | None = None
    quota: TokenQuota | None = None
    max_in_flight: int | None = None
    max_items: int = 1
    context_tokens: int | None = None
    capabilities: frozenset[Capability] = frozenset(Capability)
    tags: frozenset[str] = frozenset()
    derived_from: str | None = None
    """Model that this one was fine-tuned, distilled or quantised from: where its estimates start."""
    limit: LimitTerms = LimitTerms()
    optimizations: tuple[str, ...] = ()
    """What was done to it, such as quantization-awq or speculative-decoding."""
    takes: frozenset[Sampling] = frozenset({Sampling.TEMPERATURE, Sampling.TOP_P, Sampling.MAX_TOKENS})
    """Sampling parameters that may be filled in."""
    lane: Lane = Lane.DEFAULT
    mode: Mode = Mode.ACT
    """Of its limit and its capacity price."""
    served_prices: tuple[ServedPrice, ...] = ()
    """What else its calls may be served as, where that costs something else."""
    job: JobTerms | None = None
    """How its batch jobs are made, where it has such."""
    telemetry: TelemetryTerms | None = None
    """How its server is asked for its own load, where it is."""
