"""Are the promises kept? Good and total by class and objective, and what feedback says of quality.

`objective="all"` is every objective of a request together (`slo_met`). A refused request keeps no promise: it
counts against `all` and `availability`, not against latencies it never had. One that the client cancelled
counts nowhere. Useful is within every objective and adequate. Each request is judged by the objectives it was taken in
under; the gauges show what is in force, and beside it what is written and not in force. Burn rates and budgets are
rules over these counters: `deploy/prometheus-rules.yml`.
"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.drift import RISKS, FloorObserved
from router.domain.events import FeedbackReceived, RequestEnded, RequestRejected
from router.domain.outcome import Ending
from router.domain.slo import Indicator, Objectives
from router.policy.policy import Policy
from router.telemetry.labels import CANCELLED, CLIENT_GONE, Vocabulary, Words
from router.telemetry.series import Counter, Gauge, Histogram
from router.telemetry.sink import Handlers

ALL = "all"
AVAILABILITY = Indicator.AVAILABILITY.value
COMPLETED = Ending.COMPLETED.value
QUALITY_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class SloMetrics:
    """Good and total, targets and thresholds, feedback."""

    name = "metrics_slo"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._objectives = vocabulary, Words()
        labels = ("request_class", "objective")
        self._total = Counter(registry, "router_slo_requests", "Requests an objective applies to.", labels)
        self._good = Counter(registry, "router_slo_good", "Requests that met the objective.", labels)
        self._useful = Counter(
            registry,
            "router_useful_requests",
            "Sum of P(adequate) of answers within every objective.",
            ("request_class",),
        )
        self._target = Gauge(registry, "router_slo_target_ratio", "Share promised to be good.", labels)
        self._threshold = Gauge(registry, "router_slo_threshold_seconds", "Promised bound.", labels)
        self._window = Gauge(registry, "router_slo_window_seconds", "Window of the promise.", labels)
        self._edit_threshold = Gauge(
            registry, "router_slo_edit_threshold_seconds", "Bound of an edit that is not in force.", labels
        )
        self._edit_target = Gauge(
            registry, "router_slo_edit_target_ratio", "Share promised by an edit that is not in force.", labels
        )
        self._floor = Gauge(
            registry, "router_quality_floor_ratio", "Least share adequate promised.", ("request_class",)
        )
        self._floor_series(registry)
        self._feedback = Counter(
            registry, "router_feedback", "Feedback taken in; unknown or late ids teach nothing.", ("known",)
        )
        self._quality = Histogram(
            registry,
            "router_feedback_quality_ratio",
            "Quality told by feedback.",
            ("request_class", "model"),
            edges=QUALITY_EDGES,
        )
        self.create(policy)

    def _floor_series(self, registry: CollectorRegistry) -> None:
        by_class = ("request_class",)
        self._floor_price = Gauge(
            registry, "router_quality_floor_price", "Worth of adequacy above the floor.", by_class
        )
        self._floor_counted = Gauge(
            registry, "router_quality_counted_ratio", "Share adequate of late, as the floor counts it.", by_class
        )
        self._floor_margin = Gauge(
            registry, "router_quality_floor_margin_ratio", "That, corrected by verdicts, above the floor.", by_class
        )
        self._floor_risk = Gauge(
            registry,
            "router_quality_floor_at_risk_ratio",
            "1 while a floor is not to be trusted, by reason.",
            ("request_class", "reason"),
        )

    def create(self, policy: Policy) -> None:
        """Series at 0, and the promises of this policy in place of those before."""
        floors = (self._floor, self._floor_price, self._floor_counted, self._floor_margin, self._floor_risk)
        for gauge in (self._target, self._threshold, self._window, *floors):
            gauge.clear()
        models = sorted({self._words.models[d.model] for d in policy.deployments})
        self._feedback.create((("true",), ("false",)))
        for request_class in policy.classes:
            name = self._words.classes[request_class.name]
            self._quality.create(product((name,), models))
            self._useful.create(((name,),))
            if request_class.floor is not None:
                self._floor.put((name,), request_class.floor.ratio)
                self._floor_risk.create(product((name,), RISKS))
            objectives = request_class.objectives.each()
            for objective in objectives:
                key = (name, objective.indicator.value)
                self._target.put(key, objective.target)
                self._window.put(key, objective.window_s)
                if objective.indicator is not Indicator.AVAILABILITY:
                    self._threshold.put(key, objective.threshold_s)
            kept = (ALL, AVAILABILITY, *(o.indicator.value for o in objectives))
            for counter in (self._total, self._good):
                counter.create(product((name,), kept))

    def show_edits(self, in_force: Policy, written: Policy) -> None:
        """The objectives that are written otherwise than they are in force: on their way, in the shadow, taken back."""
        for gauge in (self._edit_threshold, self._edit_target):
            gauge.clear()
        held = {c.name: c.objectives for c in in_force.classes}
        for request_class in written.classes:
            old = held.get(request_class.name, Objectives())
            for objective in set(request_class.objectives.each()).difference(old.each()):
                key = (self._words.classes[request_class.name], objective.indicator.value)
                self._edit_target.put(key, objective.target)
                if objective.indicator is not Indicator.AVAILABILITY:
                    self._edit_threshold.put(key, objective.threshold_s)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            RequestEnded: self._on_ended,
            RequestRejected: self._on_rejected,
            FeedbackReceived: self._on_feedback,
            FloorObserved: self._on_floor,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_ended(self, event: RequestEnded) -> None:
        if event.code == CLIENT_GONE or event.status == CANCELLED:
            return
        name = self._words.classes[event.request_class]
        self._judge((name, ALL), event.slo_met)
        self._judge((name, AVAILABILITY), event.status == COMPLETED)
        if event.slo_met and event.p_adequate is not None:
            self._useful.add((name,), event.p_adequate)
        for objective, met in event.met:
            if objective != AVAILABILITY:
                self._judge((name, self._objectives[objective]), met)

    def _judge(self, key: tuple[str, str], met: bool) -> None:
        self._total.add(key)
        if met:
            self._good.add(key)

    def _on_rejected(self, event: RequestRejected) -> None:
        if event.code == CLIENT_GONE:
            return
        name = self._words.classes[event.request_class]
        self._total.add((name, ALL))
        self._total.add((name, AVAILABILITY))

    def _on_floor(self, event: FloorObserved) -> None:
        name = self._words.classes[event.request_class]
        kept = event.counted if event.corrected is None else event.corrected
        self._floor_price.put((name,), event.price)
        self._floor_counted.put((name,), event.counted)
        self._floor_margin.put((name,), kept - event.ratio)
        for reason in RISKS:
            self._floor_risk.put((name, reason), float(reason == event.reason))

    def _on_feedback(self, event: FeedbackReceived) -> None:
        self._feedback.add(("true" if event.known else "false",))
        if event.known:
            words = self._words
            key = (words.classes[event.request_class], words.models[event.model])
            self._quality.observe(key, event.quality)
