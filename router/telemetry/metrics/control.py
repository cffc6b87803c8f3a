"""What the controller decides and why: picks, binding constraints, prices, the queue, the policy in force."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.decision import Decision
from router.domain.events import (
    CheckpointSaved,
    DecisionMade,
    PolicyApplied,
    PolicyRejected,
    PriceUpdate,
    QueueObserved,
)
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.queued import Queued
from router.telemetry.series import Counter, Gauge, Histogram
from router.telemetry.sink import Handlers

DECIDE_EDGES = (0.00001, 0.000025, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.0025, 0.01, 0.1)
BINDINGS = ("forced", "fallback", "blind", "only", "explored", "slo", "quality", "floor", "cost", "capacity")
EXCLUSIONS = (
    "not_allowed",
    "wrong_residency",
    "later_fallback",
    "tried",
    "unhealthy",
    "lacks_capability",
    "context_too_long",
    "too_dear",
    "job_too_slow",
    "over_pace",
    "no_quota",
    "at_limit",
)
OF_DEPLOYMENTS = frozenset({"capacity", "input_tokens", "output_tokens"})
"""Prices of deployments; the others are of classes."""
SHARE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class ControlMetrics:
    """Decisions, prices, queue, policy and checkpoint."""

    name = "metrics_control"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._binding, self._codes, self._prices = vocabulary, Words(), Words(), Words()
        self._decision_series(registry)
        self._state_series(registry)
        self.create(policy)
        self._reload_ok.put((), 1.0)

    def _decision_series(self, registry: CollectorRegistry) -> None:
        by_class = ("request_class",)
        self._decisions = Counter(registry, "router_decisions", "Picks.", ("request_class", "deployment"))
        self._bindings = Counter(
            registry,
            "router_decision_bindings",
            "Picks by the constraint that decided them.",
            ("request_class", "binding"),
        )
        self._seconds = Histogram(registry, "router_decision_seconds", "Time of one decision.", edges=DECIDE_EDGES)
        self._complexity = Histogram(
            registry, "router_complexity_ratio", "Estimated complexity.", by_class, edges=SHARE_EDGES
        )
        self._excluded = Counter(registry, "router_exclusions", "Deployments filtered out.", ("deployment", "code"))
        self._explored = Counter(registry, "router_explorations", "Picks that were not the best.", by_class)
        self._slo = Counter(registry, "router_predicted_slo_good", "Sum of P(SLO met) of picks.", by_class)
        self._adequate = Counter(registry, "router_predicted_adequate", "Sum of P(adequate) of picks.", by_class)
        self._cost = Counter(registry, "router_predicted_spend_usd", "Sum of the cost predicted of picks.", by_class)

    def _state_series(self, registry: CollectorRegistry) -> None:
        self._price = Gauge(registry, "router_price", "Dual price in force.", ("kind", "subject"))
        self._price_moves = Counter(registry, "router_price_updates", "Moves of a price.", ("kind",))
        self._queue = Gauge(registry, "router_queue_requests", "Requests waiting in the router.")
        self._oldest = Gauge(registry, "router_queue_oldest_seconds", "Age of the oldest one waiting.")
        self._queued = Queued(registry, self._words)
        self._info = Gauge(registry, "router_policy_info", "1 for the policy in force.", ("digest",))
        self._reloads = Counter(registry, "router_policy_reloads", "Edits of the policy seen.", ("result",))
        self._reload_ok = Gauge(registry, "router_policy_last_reload_success_ratio", "1 if it was accepted.")
        self._reload_at = Gauge(
            registry, "router_policy_last_reload_timestamp_seconds", "When it was seen; 0 before the first."
        )
        self._checkpoint_at = Gauge(registry, "router_checkpoint_timestamp_seconds", "Last save of the learned state.")
        self._checkpoint_size = Gauge(registry, "router_checkpoint_bytes", "Size of the learned state.")

    def create(self, policy: Policy) -> None:
        """Series at 0 for everything this policy names."""
        self._info.clear()
        self._info.put((policy.digest,), 1.0)
        classes = [(self._words.classes[c.name],) for c in policy.classes]
        deployments = [self._words.deployments[d.name] for d in policy.deployments]
        self._decisions.create((*c, d) for c in classes for d in deployments)
        self._bindings.create((*c, binding) for c in classes for binding in BINDINGS)
        self._excluded.create(product(deployments, EXCLUSIONS))
        self._seconds.create(((),))
        self._complexity.create(classes)
        for counter in (self._explored, self._slo, self._adequate, self._cost):
            counter.create(classes)
        self._queued.create(policy)
        kinds = ("floor", "usd", "capacity", "tenant")
        self._price_moves.create((kind,) for kind in kinds)
        self._price.create(product(("capacity",), deployments))
        self._reloads.create((("accepted",), ("rejected",)))
        for gauge in (self._queue, self._oldest, self._reload_at, self._checkpoint_at, self._checkpoint_size):
            gauge.create(((),))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            DecisionMade: self._on_decision,
            PriceUpdate: self._on_price,
            QueueObserved: self._on_queue,
            PolicyApplied: self._on_applied,
            PolicyRejected: self._on_refused,
            CheckpointSaved: self._on_checkpoint,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_decision(self, event: DecisionMade) -> None:
        decision, words = event.decision, self._words
        name = words.classes[decision.request_class]
        self._decisions.add((name, words.deployments[decision.chosen]))
        self._bindings.add((name, self._binding[decision.binding]))
        self._seconds.observe((), decision.decide_s)
        self._complexity.observe((name,), decision.complexity)
        for exclusion in decision.excluded:
            self._excluded.add((words.deployments[exclusion.deployment], self._codes[exclusion.code]))
        self._on_pick(decision, (name,))

    def _on_pick(self, decision: Decision, key: tuple[str]) -> None:
        best = chosen = None
        for candidate in decision.candidates:
            if candidate.deployment == decision.chosen:
                chosen = candidate
            if best is None or candidate.score > best.score:
                best = candidate
        if chosen is None:
            return
        if chosen is not best:
            self._explored.add(key)
        self._slo.add(key, chosen.terms.p_slo)
        self._adequate.add(key, chosen.terms.p_adequate)
        self._cost.add(key, chosen.terms.cost_usd)

    def _on_price(self, event: PriceUpdate) -> None:
        if event.advised:
            return
        kind = self._prices[event.kind]
        names = self._words.deployments if event.kind in OF_DEPLOYMENTS else self._words.classes
        names = self._words.tenants if event.kind == "tenant" else names
        self._price.put((kind, names[event.subject]), event.new)
        self._price_moves.add((kind,))

    def _on_queue(self, event: QueueObserved) -> None:
        self._queue.put((), event.waiting)
        self._oldest.put((), event.oldest_s)
        self._queued.put(event)

    def _on_applied(self, event: PolicyApplied) -> None:
        self._reloads.add(("accepted",))
        self._reload_ok.put((), 1.0)
        self._reload_at.put((), event.at)

    def _on_refused(self, event: PolicyRejected) -> None:
        self._reloads.add(("rejected",))
        self._reload_ok.put((), 0.0)
        self._reload_at.put((), event.at)

    def _on_checkpoint(self, event: CheckpointSaved) -> None:
        self._checkpoint_at.put((), event.at)
        self._checkpoint_size.put((), event.size_bytes)
