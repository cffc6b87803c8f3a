"""The deployments: calls made of them, how full they are, how they feel."""

from __future__ import annotations

from itertools import product
from math import inf

from prometheus_client import CollectorRegistry

from router.domain.errors import BackendError
from router.domain.events import AttemptEnded, HealthChanged, LimitUpdate, LoadObserved
from router.domain.outcome import Ending
from router.domain.view import Health
from router.policy.policy import Policy
from router.telemetry.labels import NONE, Vocabulary, Words, error_codes
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

HEALTH = tuple(health.value for health in Health)


class DeploymentMetrics:
    """Calls, load, limits and health by deployment."""

    name = "metrics_deployments"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._limited, self._reasons, self._states = vocabulary, Words(), Words(), Words()
        by_deployment = ("deployment",)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(registry, name, text, by_deployment)

        self._info = Gauge(
            registry,
            "router_deployment_info",
            "What each deployment is.",
            ("deployment", "model", "tier", "kind", "backend"),
        )
        self._attempts = Counter(registry, "router_attempts", "Calls ended.", ("deployment", "ending", "code"))
        self._in_flight = gauge("router_in_flight_attempts", "Calls running.")
        self._limit = gauge("router_limit_attempts", "Calls that may run; +Inf is unlimited.")
        self._waiting = gauge("router_waiting_tokens", "Prompt tokens sent and not yet taken in.")
        self._context = gauge("router_context_tokens", "Context tokens of what is decoding.")
        self._saturation = gauge("router_saturation_ratio", "Used of capacity; 1 is full.")
        self._slowdown = gauge("router_slowdown_ratio", "Learned multiplier on the latency model.")
        self._health = Gauge(registry, "router_health", "1 for the circuit state in force.", ("deployment", "state"))
        self._changes = Counter(registry, "router_health_changes", "Changes of circuit state.", ("deployment", "state"))
        self._moves = Counter(registry, "router_limit_updates", "Moves of a limit.", ("deployment", "what", "reason"))
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for each deployment; the info is that of this policy alone."""
        self._info.clear()
        for d in policy.deployments:
            self._info.put((d.name, d.model, d.tier.value, d.kind.value, d.address.backend), 1.0)
        names = [self._words.deployments[d.name] for d in policy.deployments]
        endings = (Ending.COMPLETED.value, Ending.CANCELLED.value)
        self._attempts.create(product(names, endings, (NONE,)))
        self._attempts.create(product(names, (Ending.FAILED.value,), sorted(error_codes(BackendError))))
        for gauge in (self._in_flight, self._waiting, self._context, self._saturation):
            gauge.create((name,) for name in names)
        for d in policy.deployments:
            if not self._limit.value((d.name,)):
                self._limit.put((d.name,), d.max_in_flight or inf)
        for name in names:
            if not self._slowdown.value((name,)):
                self._slowdown.put((name,), 1.0)
            if not any(self._health.value((name, state)) for state in HEALTH):
                self._set_health(name, Health.OK.value)
        self._changes.create(product(names, HEALTH))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            AttemptEnded: self._on_attempt,
            LoadObserved: self._on_load,
            HealthChanged: self._on_health,
            LimitUpdate: self._on_limit,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_attempt(self, event: AttemptEnded) -> None:
        outcome, words = event.outcome, self._words
        deployment = words.deployments[outcome.attempt.deployment.name]
        ending = words.endings[outcome.ending]
        self._attempts.add((deployment, ending, words.codes[outcome.error_code or ""]))

    def _on_load(self, event: LoadObserved) -> None:
        key = (self._words.deployments[event.deployment],)
        self._in_flight.put(key, event.in_flight)
        self._limit.put(key, inf if event.limit is None else event.limit)
        self._waiting.put(key, event.waiting_tokens)
        self._context.put(key, event.context_tokens)
        self._saturation.put(key, event.saturation_ratio)
        self._slowdown.put(key, event.multiplier)

    def _on_health(self, event: HealthChanged) -> None:
        deployment, state = self._words.deployments[event.deployment], self._states[event.new]
        self._set_health(deployment, state)
        self._changes.add((deployment, state))

    def _set_health(self, deployment: str, state: str) -> None:
        for other in HEALTH:
            self._health.put((deployment, other), 0.0)
        self._health.put((deployment, state), 1.0)

    def _on_limit(self, event: LimitUpdate) -> None:
        deployment = self._words.deployments[event.deployment]
        self._moves.add((deployment, self._limited[event.what], self._reasons[event.reason]))
        if event.what == "in_flight":
            self._limit.put((deployment,), event.new)
