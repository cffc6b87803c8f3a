"""The deployments: calls made of them, how full they are, how they feel; and the batches of those that take them."""

from __future__ import annotations

from collections.abc import KeysView
from itertools import product
from math import inf

from prometheus_client import CollectorRegistry

from router.core.spending.billing import asked
from router.domain.control.batches import BatchEnded, Start
from router.domain.deployment import Kind
from router.domain.errors import BackendError
from router.domain.events import AttemptEnded, HealthChanged, LimitUpdate, LoadObserved
from router.domain.outcome import Ending
from router.domain.view import Health
from router.policy.policy import Policy
from router.telemetry.labels import NONE, Vocabulary, Words, error_codes
from router.telemetry.series import Counter, Gauge, Histogram
from router.telemetry.sink import Handlers

HEALTH = tuple(health.value for health in Health)
_SIZE_EDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_BATCH_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


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
        self._otherwise = Counter(
            registry,
            "router_served_otherwise",
            "Calls served in another tier, at another latency or by another model than asked for.",
            ("deployment", "asked", "served"),
        )
        self._in_flight = gauge("router_in_flight_attempts", "Calls running.")
        self._limit = gauge("router_limit_attempts", "Calls that may run; +Inf is unlimited.")
        self._limits = Gauge(
            registry,
            "router_limit",
            "What may be at once, by what decides it: requests, or tokens where a bound on them is known.",
            ("deployment", "kind", "resource"),
        )
        self._shown: dict[str, KeysView[tuple[str, str, str]]] = {}
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
        served = ((d, {one.served for one in d.served_prices}) for d in policy.deployments)
        self._otherwise.create((self._words.deployments[d.name], asked(d), one) for d, ones in served for one in ones)
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
        if outcome.served_otherwise is not None:
            self._otherwise.add((deployment, asked(outcome.attempt.deployment), outcome.served_otherwise))

    def _on_load(self, event: LoadObserved) -> None:
        key = (self._words.deployments[event.deployment],)
        self._in_flight.put(key, event.in_flight)
        self._limit.put(key, inf if event.limit is None else event.limit)
        self._put_limits(key[0], event)
        self._waiting.put(key, event.waiting_tokens)
        self._context.put(key, event.context_tokens)
        self._saturation.put(key, event.saturation_ratio)
        self._slowdown.put(key, event.multiplier)

    def _put_limits(self, deployment: str, event: LoadObserved) -> None:
        """A series for each resource that is limited; none of a kind that is not in force any more."""
        kind = self._limited[event.limit_kind]
        resources = {"requests": event.limit, "tokens": event.token_limit} if event.limit_kind else {}
        told = {(deployment, kind, resource): value for resource, value in resources.items() if value is not None}
        if told.keys() != self._shown.get(deployment):
            self._limits.forget(lambda labels: labels[0] == deployment)
            self._shown[deployment] = told.keys()
        for labels, value in told.items():
            self._limits.put(labels, value)

    def _on_health(self, event: HealthChanged) -> None:
        deployment, state = self._words.deployments[event.deployment], self._states[event.new]
        self._set_health(deployment, state)
        self._changes.add((deployment, state))

    def _set_health(self, deployment: str, state: str) -> None:
        for other in HEALTH:
            self._health.put((deployment, other), 0.0)
        self._health.put((deployment, state), 1.0)

    def _on_limit(self, event: LimitUpdate) -> None:
        if event.advised:
            return
        deployment = self._words.deployments[event.deployment]
        self._moves.add((deployment, self._limited[event.what], self._reasons[event.reason]))
        if event.what == "in_flight":
            self._limit.put((deployment,), event.new)


class BatchMetrics:
    """What was put together for endpoints that take batches, and why so much."""

    name = "metrics_batches"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._reasons = vocabulary, Words()
        by_deployment = ("deployment",)
        self._size = Histogram(
            registry,
            "router_batch_size",
            "Items in a batch, by why it began when it did.",
            ("deployment", "reason"),
            edges=_SIZE_EDGES,
        )
        self._wait = Histogram(
            registry,
            "router_batch_wait_seconds",
            "Time that the endpoint stood idle on purpose before a batch.",
            by_deployment,
            edges=_BATCH_EDGES,
        )
        self._seconds = Histogram(
            registry, "router_batch_seconds", "Time of a batch at its endpoint.", by_deployment, edges=_BATCH_EDGES
        )
        self._upper = Counter(
            registry,
            "router_batch_within_prediction",
            "Batches that answered, by whether within the predicted 99 % quantile.",
            ("deployment", "within"),
        )
        self._late = Counter(
            registry,
            "router_batch_late_items",
            "Items that could no longer be in time when their batch began: dropped, or served late.",
            ("deployment", "fate"),
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for each deployment that takes batches."""
        names = [self._words.deployments[d.name] for d in policy.deployments if d.kind is Kind.BATCH]
        self._size.create(product(names, [reason.value for reason in Start]))
        for histogram in (self._wait, self._seconds):
            histogram.create((name,) for name in names)
        self._upper.create(product(names, ("yes", "no")))
        self._late.create(product(names, ("dropped", "served")))

    def handlers(self) -> Handlers:
        """One handler."""
        return {BatchEnded: self._on_batch}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_batch(self, event: BatchEnded) -> None:
        deployment = self._words.deployments[event.deployment]
        self._size.observe((deployment, self._reasons[event.reason]), event.items)
        self._wait.observe((deployment,), event.wait_s)
        self._seconds.observe((deployment,), event.took_s)
        if event.code is None:
            self._upper.add((deployment, "yes" if event.took_s <= event.upper_s else "no"))
        self._late.add((deployment, "dropped"), event.dropped)
        self._late.add((deployment, "served"), event.late)
