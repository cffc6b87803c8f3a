"""The same figures under OpenTelemetry's GenAI names, in Prometheus spelling.

`gen_ai_client_*` is what the router sees as the client of the models: one operation for each call.
`gen_ai_server_*` is what the clients of the router see: one for each request. Names, attributes and bucket
edges are those of the OpenTelemetry GenAI semantic conventions (status: development); units in braces are
dropped, dots become underscores. An answer from the cache is no operation of a model and is left out.
"""

from __future__ import annotations

from msgspec import Struct
from prometheus_client import CollectorRegistry

from router.domain.events import CACHE, AttemptEnded, RequestEnded
from router.domain.outcome import Ending
from router.policy.policy import Policy
from router.telemetry.labels import OTHER, Vocabulary
from router.telemetry.series import Histogram, Labels
from router.telemetry.sink import Handlers

TOKEN_EDGES = tuple(4.0**power for power in range(14))
DURATION_EDGES = tuple(round(0.01 * 2.0**power, 2) for power in range(14))
TTFT_EDGES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TPOT_EDGES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

OPERATION = "chat"
COMPLETED = Ending.COMPLETED.value
PROVIDERS = {"bedrock": "aws.bedrock", "sagemaker": "aws.sagemaker", "openai_http": "openai"}
ATTRIBUTES = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class _Keys(Struct, frozen=True):
    """The label values of one deployment's series."""

    attributes: Labels
    input: Labels
    output: Labels
    completed: Labels


def _keys(provider: str, model: str) -> _Keys:
    attributes = (OPERATION, provider, model)
    return _Keys(attributes, (*attributes, "input"), (*attributes, "output"), (*attributes, ""))


class GenAiMetrics:
    """Token usage, operation duration, time to first token, time per output token."""

    name = "metrics_genai"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
        self._keys: dict[str, _Keys] = {}
        self._unknown = _keys(OTHER, OTHER)
        self._usage = Histogram(
            registry,
            "gen_ai_client_token_usage",
            "Tokens of one call.",
            (*ATTRIBUTES, "gen_ai_token_type"),
            edges=TOKEN_EDGES,
        )
        self._duration = Histogram(
            registry,
            "gen_ai_client_operation_duration_seconds",
            "Duration of one call.",
            (*ATTRIBUTES, "error_type"),
            edges=DURATION_EDGES,
        )
        self._ttft = Histogram(
            registry,
            "gen_ai_server_time_to_first_token_seconds",
            "Time to first token of successful answers.",
            ATTRIBUTES,
            edges=TTFT_EDGES,
        )
        self._tpot = Histogram(
            registry,
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first, of successful answers.",
            ATTRIBUTES,
            edges=TPOT_EDGES,
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Empty series for each model and provider of this policy."""
        for deployment in policy.deployments:
            backend = deployment.address.backend
            keys = _keys(PROVIDERS.get(backend, backend), self._words.models[deployment.model])
            self._keys[self._words.deployments[deployment.name]] = keys
            self._usage.create((keys.input, keys.output))
            self._duration.create((keys.completed,))
            self._ttft.create((keys.attributes,))
            self._tpot.create((keys.attributes,))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {AttemptEnded: self._on_attempt, RequestEnded: self._on_ended}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_attempt(self, event: AttemptEnded) -> None:
        outcome = event.outcome
        keys, code = self._keys.get(outcome.attempt.deployment.name, self._unknown), outcome.error_code
        ended = keys.completed if code is None else (*keys.attributes, self._words.codes[code])
        self._duration.observe(ended, outcome.ended - outcome.attempt.started)
        self._usage.observe(keys.input, outcome.input_tokens)
        self._usage.observe(keys.output, outcome.output_tokens)

    def _on_ended(self, event: RequestEnded) -> None:
        if event.status != COMPLETED or event.deployment == CACHE:
            return
        attributes = self._keys.get(event.deployment, self._unknown).attributes
        if event.ttft_s is not None:
            self._ttft.observe(attributes, event.ttft_s)
        if event.tpot_s is not None and event.output_tokens > 1:
            self._tpot.observe(attributes, event.tpot_s)
