"""What is done to what was learned: forgotten, imported, held still, believed less."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.learned import FREEZABLE, BeliefsWidened, LearnedImported, LearnedReset, LearningFrozen, Part
from router.policy.policy import Policy
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

CHANGES = ("reset", "imported")


class LearnedMetrics:
    """By part; no model is a label here, the log and the checkpoint's lineage name them."""

    name = "metrics_learned"

    def __init__(self, registry: CollectorRegistry, policy: Policy) -> None:
        self._frozen = Gauge(registry, "router_learning_frozen", "1 where nothing is learned of a part.", ("part",))
        labels = ("change", "part")
        self._changes = Counter(registry, "router_learned_changes", "Parts that an operator changed.", labels)
        self._widened = Counter(registry, "router_learned_widened_models", "Beliefs met by another artefact.")
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series for every part, whatever the policy."""
        for part in FREEZABLE:
            self._frozen.begin((part,), 0.0)
        self._changes.create((change, part) for change in CHANGES for part in Part)
        self._widened.create([()])

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            LearningFrozen: self._on_frozen,
            LearnedReset: self._on_reset,
            LearnedImported: self._on_imported,
            BeliefsWidened: self._on_widened,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_frozen(self, event: LearningFrozen) -> None:
        for part in FREEZABLE:
            self._frozen.put((part,), float(part in event.frozen))

    def _on_reset(self, event: LearnedReset) -> None:
        for part in event.parts:
            self._changes.add(("reset", part))

    def _on_imported(self, event: LearnedImported) -> None:
        for part in event.parts:
            self._changes.add(("imported", part))

    def _on_widened(self, event: BeliefsWidened) -> None:
        self._widened.add((), len(event.models))
