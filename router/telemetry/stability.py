"""Do predictions hold, may the controller tune, and what would it do where it only advises?"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.control.limits.stand import REQUESTS
from router.domain.control.stability import CoverageChanged, KnowledgeChanged, PredictionsScored, TuningChanged
from router.domain.deployment import Mode
from router.domain.events import CeilingUpdate, LimitUpdate, PriceUpdate
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

_WHAT = ("ttft", "tpot")
_RESULTS = ("inside", "over", "under")
_KNOWN = ("fresh", "ledger", "conservative", "blind")
_ADVICE = ("limit", "price", "ceiling")


class StabilityMetrics:
    """Coverage of predictions, freezes, what is known of deployments, and advice."""

    name = "metrics_stability"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._kinds = vocabulary, Words()
        by_what = ("deployment", "what")
        self._scored = Counter(
            registry,
            "router_predictions",
            "Latencies against the 90 % interval predicted for them.",
            ("deployment", "what", "result"),
        )
        self._coverage = Gauge(
            registry, "router_prediction_coverage_ratio", "Share of late inside their 90 % interval.", by_what
        )
        self._off = Gauge(
            registry, "router_prediction_off_ratio", "1 while intervals have held too little or much for long.", by_what
        )
        self._frozen = Gauge(registry, "router_tuning_frozen_ratio", "1 while limits and prices are held.")
        self._changes = Counter(
            registry, "router_tuning_changes", "Times they were held, and let go.", ("request_class", "state")
        )
        self._known = Gauge(
            registry, "router_knowledge", "1 for how much is known of a deployment.", ("deployment", "state")
        )
        self._advises = Gauge(registry, "router_advise_mode_ratio", "1 where it is only said.", ("of", "subject"))
        self._limit = Gauge(registry, "router_advised_limit_attempts", "Where a limit would be.", ("deployment",))
        self._price = Gauge(registry, "router_advised_price", "What a price would be.", ("kind", "subject"))
        self._tokens = Gauge(
            registry, "router_advised_ceiling_tokens", "Where a ceiling would be.", ("request_class", "model")
        )
        self._advice = Counter(registry, "router_advised_updates", "Changes that were only said.", ("what",))
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0; of what only advises, as this policy has it."""
        words = self._words
        names = [words.deployments[d.name] for d in policy.deployments]
        classes = [words.classes[c.name] for c in policy.classes]
        self._scored.create(product(names, _WHAT, _RESULTS))
        for name in names:
            for what in _WHAT:
                self._coverage.begin((name, what), 0.9)
                self._off.begin((name, what), 0.0)
            for state in _KNOWN:
                self._known.begin((name, state), float(state == _KNOWN[0]))
        self._frozen.begin((), 0.0)
        self._changes.create(product(classes, ("frozen", "free")))
        self._advice.create((what,) for what in _ADVICE)
        self._advises.clear()
        advised = set()
        for d in policy.deployments:
            is_advice = d.mode is Mode.ADVISE
            self._advises.put(("deployment", words.deployments[d.name]), float(is_advice))
            advised |= {words.deployments[d.name]} if is_advice else set()
        for c in policy.classes:
            is_advice = c.mode is Mode.ADVISE
            self._advises.put(("class", words.classes[c.name]), float(is_advice))
            advised |= {words.classes[c.name]} if is_advice else set()
        self._limit.forget(lambda labels: labels[0] not in advised)
        self._price.forget(lambda labels: labels[1] not in advised)
        self._tokens.forget(lambda labels: labels[0] not in advised)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            PredictionsScored: self._on_scored,
            CoverageChanged: self._on_coverage,
            TuningChanged: self._on_tuning,
            KnowledgeChanged: self._on_knowledge,
            LimitUpdate: self._on_limit,
            PriceUpdate: self._on_price,
            CeilingUpdate: self._on_ceiling,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_scored(self, event: PredictionsScored) -> None:
        key = (self._words.deployments[event.deployment], event.what)
        for result, count in zip(_RESULTS, (event.inside, event.over, event.under), strict=True):
            if count:
                self._scored.add((*key, result), count)
        self._coverage.put(key, event.ratio)

    def _on_coverage(self, event: CoverageChanged) -> None:
        self._off.put((self._words.deployments[event.deployment], event.what), float(event.new != "holds"))

    def _on_tuning(self, event: TuningChanged) -> None:
        self._frozen.put((), float(event.new == "frozen"))
        self._changes.add((self._words.classes[event.request_class], event.new))

    def _on_knowledge(self, event: KnowledgeChanged) -> None:
        name = self._words.deployments[event.deployment]
        for state in _KNOWN:
            self._known.put((name, state), float(state == event.new))

    def _on_limit(self, event: LimitUpdate) -> None:
        if event.advised:
            self._advice.add(("limit",))
            if event.what == REQUESTS:
                self._limit.put((self._words.deployments[event.deployment],), event.new)

    def _on_price(self, event: PriceUpdate) -> None:
        if event.advised:
            self._advice.add(("price",))
            names = self._words.deployments if event.kind == "capacity" else self._words.classes
            self._price.put((self._kinds[event.kind], names[event.subject]), event.new)

    def _on_ceiling(self, event: CeilingUpdate) -> None:
        if event.advised:
            self._advice.add(("ceiling",))
            key = (self._words.classes[event.request_class], self._words.models[event.model])
            self._tokens.put(key, event.new_tokens)
