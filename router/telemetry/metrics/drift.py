"""What drifted, and what is held back because of it."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.drift import DriftDetected
from router.domain.events import JUDGE, SENDER
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

OF_MODELS = ("fell", "rose", "settled", "retried")
OF_FEATURES = ("novelty", "complexity", "input_tokens")
WAYS = ("up", "down")
ENDS = ("stayed", "passed")


class DriftMetrics:
    """Detections by kind and direction; which models have fallen, and which source of feedback is not learned from."""

    name = "metrics_drift"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._sources = vocabulary, Words()
        labels = ("kind", "what", "direction")
        self._detections = Counter(registry, "router_drift_detections", "Drifts told, and their ends.", labels)
        by_class = ("request_class", "what")
        self._classes = Counter(registry, "router_drift_classes", "Drifts of a request class.", by_class)
        self._fallen = Gauge(registry, "router_drift_fallen", "1 while a model answers worse than it did.", ("model",))
        self._frozen = Gauge(
            registry, "router_drift_feedback_frozen", "1 while nothing is learned from a source.", ("source",)
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for every model and class of this policy."""
        self._detections.create(product(("residual",), ("model",), OF_MODELS))
        self._detections.create(product(("residual",), ("class",), WAYS))
        self._detections.create(product(("features",), OF_FEATURES, WAYS))
        self._detections.create(product(("feedback",), ("share",), WAYS))
        self._detections.create(product(("feedback",), ("quality",), (*WAYS, *ENDS)))
        names = [self._words.classes[c.name] for c in policy.classes]
        self._classes.create(product(names, ("class", "share", *OF_FEATURES)))
        for deployment in policy.deployments:
            self._fallen.begin((self._words.models[deployment.model],), 0.0)
        for source in (SENDER, JUDGE):
            self._frozen.begin((self._sources[source],), 0.0)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {DriftDetected: self._on_drift}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_drift(self, event: DriftDetected) -> None:
        self._detections.add((event.kind, event.what, event.direction))
        if event.what == "model":
            self._fallen.put((self._words.models[event.subject],), float(event.direction == "fell"))
        elif event.what == "quality":
            self._frozen.put((self._sources[event.subject],), float(event.direction in WAYS))
            if event.direction != "passed":
                self._stand()
        else:
            self._classes.add((self._words.classes[event.subject], event.what))

    def _stand(self) -> None:
        """Falls that turned out to be the source's are taken back."""
        for labels in self._fallen.series():
            self._fallen.put(labels, 0.0)
