"""What became of the requests, how long they took, phase by phase, and what they cost.

Every threshold that is promised is an edge of its histogram. A policy with another threshold adds an edge while the
router runs (`Histogram.refit` says what becomes of the counts); an edge that was promised once is kept, so that taking
an edit back changes nothing, until there are more than `EDGES_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.control.jobs import AnswersUnused
from router.domain.deployment import Tier
from router.domain.errors import Evicted, Expired, Rejected
from router.domain.events import (
    CACHE,
    AttemptEnded,
    IngressEvent,
    RequestEnded,
    RequestReceived,
    RequestRejected,
)
from router.domain.slo import Indicator
from router.policy.policy import Policy
from router.telemetry.labels import CANCELLED, CLIENT_GONE, NONE, Vocabulary, Words
from router.telemetry.series import Counter, Histogram
from router.telemetry.sink import Handlers

TTFT_EDGES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
TPOT_EDGES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
E2E_EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
PHASE_EDGES = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
OVERHEAD_EDGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
EDGES_MAX = 64

_REJECTIONS = {Expired.code: "expired", Evicted.code: "evicted", CLIENT_GONE: CANCELLED}

REQUEST_PHASES = ("ingress", "queue", "reply")
ATTEMPT_PHASES = ("batch_wait", "network", "first_token", "decode")


def edges(base: Iterable[float], policy: Policy, indicator: Indicator, *, present: Iterable[float] = ()) -> set[float]:
    """The base edges, every threshold (seconds) that the policy promises for this indicator, and the edges that are
    present, if that is not too many."""
    promised = (o for c in policy.classes for o in c.objectives.each() if o.indicator is indicator)
    needed = {*base, *(o.threshold_s for o in promised)}
    widened = needed.union(present)
    return widened if len(widened) <= EDGES_MAX else needed


def rejection_status(code: str) -> str:
    """The status of a request that ended before any call: rejected, expired, evicted or cancelled."""
    return _REJECTIONS.get(code, "rejected")


class RequestMetrics:
    """Counts, latency, phases, tokens and money."""

    name = "metrics_requests"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._sources, self._statuses = vocabulary, Words(), Words()
        by_class, by_tier = ("request_class",), ("request_class", "tier")
        self._received = Counter(
            registry, "router_requests_received", "Requests taken in.", ("request_class", "source")
        )
        self._requests = Counter(
            registry,
            "router_requests",
            "Requests answered or failed for good.",
            ("request_class", "deployment", "tier", "status", "code"),
        )
        self._ttft, self._tpot, self._e2e = (
            Histogram(registry, name, text, by_tier, edges=base)
            for name, text, base in (
                ("router_ttft_seconds", "Arrival to first token.", TTFT_EDGES),
                ("router_tpot_seconds", "Mean gap between tokens.", TPOT_EDGES),
                ("router_e2e_seconds", "Arrival to the end of the answer.", E2E_EDGES),
            )
        )
        self._phases = Histogram(
            registry,
            "router_phase_seconds",
            "Time in one phase; deployment is none before a decision.",
            ("phase", "deployment"),
            edges=PHASE_EDGES,
        )
        self._overhead = Histogram(
            registry, "router_overhead_seconds", "The router's own time in a request.", edges=OVERHEAD_EDGES
        )
        self._spend = Counter(registry, "router_spend_usd", "Dollars paid for calls.", ("request_class", "deployment"))
        self._baseline = Counter(
            registry, "router_baseline_spend_usd", "Dollars had all gone to the large model.", by_class
        )
        self._tokens = Counter(registry, "router_tokens", "Tokens of answered requests.", ("deployment", "direction"))
        self._retries = Counter(registry, "router_retries", "Calls after the first one.", by_class)
        self._tenant_requests = Counter(
            registry, "router_tenant_requests", "Requests of allow-listed tenants.", ("tenant", "status")
        )
        self._tenant_spend = Counter(
            registry, "router_tenant_spend_usd", "Dollars of allow-listed tenants.", ("tenant",)
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0 for everything this policy names."""
        classes = [self._words.classes[c.name] for c in policy.classes]
        tiers = {d.name: d.tier.value for d in policy.deployments}
        self._received.create(product(classes, ("http", "mqtt")))
        self._requests.create((c, d, t, "completed", NONE) for c in classes for d, t in tiers.items())
        cached = [self._words.classes[c.name] for c in policy.classes if c.cache is not None]
        self._requests.create((c, CACHE, NONE, "completed", NONE) for c in cached)
        refusals = (Rejected.code, *Rejected.codes, *_REJECTIONS)
        self._requests.create((c, NONE, NONE, rejection_status(r), r) for c in classes for r in refusals)
        for histogram, base, indicator in (
            (self._ttft, TTFT_EDGES, Indicator.TTFT),
            (self._tpot, TPOT_EDGES, Indicator.TPOT),
            (self._e2e, E2E_EDGES, Indicator.E2E),
        ):
            histogram.refit(edges(base, policy, indicator, present=histogram.edges))
            histogram.create(product(classes, [tier.value for tier in Tier]))
        self._phases.create(product(REQUEST_PHASES, (NONE,)))
        self._phases.create(product(ATTEMPT_PHASES, tiers))
        self._overhead.create(((),))
        self._spend.create(product(classes, tiers))
        self._baseline.create((c,) for c in classes)
        self._retries.create((c,) for c in classes)
        self._tokens.create(product(tiers, ("input", "output")))
        self._tenant_requests.create(product(self._words.tenants, ("completed",)))
        self._tenant_spend.create((t,) for t in self._words.tenants)

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {
            RequestReceived: self._on_received,
            RequestRejected: self._on_rejected,
            RequestEnded: self._on_ended,
            AttemptEnded: self._on_attempt,
            AnswersUnused: self._on_unused,
            IngressEvent: self._on_ingress,
        }

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_received(self, event: RequestReceived) -> None:
        request = event.request
        self._received.add((self._words.classes[event.request_class], self._sources[request.source]))
        if event.now is not None:
            self._phases.observe(("ingress", NONE), event.now - request.arrived)

    def _on_rejected(self, event: RequestRejected) -> None:
        words = self._words
        status, code = rejection_status(event.code), words.codes[event.code]
        self._requests.add((words.classes[event.request_class], NONE, NONE, status, code))
        if event.request.tenant in words.tenants:
            self._tenant_requests.add((event.request.tenant, status))

    def _on_ended(self, event: RequestEnded) -> None:
        words = self._words
        name, deployment = words.classes[event.request_class], words.deployments[event.deployment]
        tier = words.tiers[event.tier]
        status = CANCELLED if event.code == CLIENT_GONE else self._statuses[event.status]
        self._requests.add((name, deployment, tier, status, words.codes[event.code or ""]))
        self._time(event, name, tier)
        self._spend.add((name, deployment), event.cost_usd)
        self._baseline.add((name,), event.baseline_cost_usd)
        self._tokens.add((deployment, "input"), event.input_tokens)
        self._tokens.add((deployment, "output"), event.output_tokens)
        if event.attempts > 1:
            self._retries.add((name,), event.attempts - 1)
        tenant = event.request.tenant
        if tenant in words.tenants:
            self._tenant_requests.add((tenant, status))
            self._tenant_spend.add((tenant,), event.cost_usd)

    def _time(self, event: RequestEnded, name: str, tier: str) -> None:
        if event.ttft_s is not None:
            self._ttft.observe((name, tier), event.ttft_s)
        if event.tpot_s is not None:
            self._tpot.observe((name, tier), event.tpot_s)
        self._e2e.observe((name, tier), event.e2e_s)
        self._phases.observe(("queue", NONE), event.queue_s)
        self._overhead.observe((), event.overhead_s)

    def _on_attempt(self, event: AttemptEnded) -> None:
        deployment = self._words.deployments[event.outcome.attempt.deployment.name]
        first_token, network = event.first_token_s, event.network_s
        if network is not None and first_token is not None:
            first_token -= network
        if event.batch_wait_s is not None:
            self._phases.observe(("batch_wait", deployment), event.batch_wait_s)
        if network is not None:
            self._phases.observe(("network", deployment), network)
        if first_token is not None:
            self._phases.observe(("first_token", deployment), first_token)
        if event.decode_s is not None:
            self._phases.observe(("decode", deployment), event.decode_s)

    def _on_unused(self, event: AnswersUnused) -> None:
        deployment = self._words.deployments[event.deployment]
        for name, usd in event.by_class:
            self._spend.add((self._words.classes[name], deployment), usd)

    def _on_ingress(self, event: IngressEvent) -> None:
        if event.what == "replied" and event.seconds is not None:
            self._phases.observe(("reply", NONE), event.seconds)
