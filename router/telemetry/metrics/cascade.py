"""Answers that were checked before they were sent, and what became of them. Only for classes that check."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.events import CascadeChecked
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary, Words
from router.telemetry.series import Counter
from router.telemetry.sink import Handlers

RESULTS = ("sent", "escalated")


class CascadeMetrics:
    """Checked answers by class, by what spoke against them and by what was done."""

    name = "metrics_cascade"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._whys = vocabulary, Words()
        labels = ("request_class", "why", "result")
        self._checked = Counter(registry, "router_cascade_answers", "Answers checked before they were sent.", labels)
        by_result = ("request_class", "result")
        self._before = Counter(
            registry, "router_cascade_adequate_before", "Sum of P(adequate) of checked answers before.", by_result
        )
        self._after = Counter(
            registry, "router_cascade_adequate_after", "Sum of P(adequate) of checked answers after.", by_result
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for every class that checks."""
        for request_class in policy.classes:
            if request_class.cascade is not None:
                name = self._words.classes[request_class.name]
                whys = ("passed", *(check.value for check in request_class.cascade.checks))
                self._checked.create(product((name,), whys, RESULTS))
                self._before.create(product((name,), RESULTS))
                self._after.create(product((name,), RESULTS))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {CascadeChecked: self._on_checked}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_checked(self, event: CascadeChecked) -> None:
        name = self._words.classes[event.request_class]
        result = RESULTS[event.escalated]
        self._checked.add((name, self._whys[event.why], result))
        self._before.add((name, result), event.p_adequate_before)
        self._after.add((name, result), event.p_adequate_after)
