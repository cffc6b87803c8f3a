"""What accounts may ask for on demand, and what their prompt caches are worth.

Quotas have series where they are known; any backend may say that it has read from a cache.
"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry

from router.domain.control.allowance import AllowanceObserved
from router.domain.events import AttemptEnded
from router.policy.policy import Policy
from router.telemetry.labels import Vocabulary
from router.telemetry.series import Counter, Gauge
from router.telemetry.sink import Handlers

RESOURCES = ("requests", "tokens")
KINDS = ("read", "write")


class AllowanceMetrics:
    """By deployment. Deployments that share a quota show the same."""

    name = "metrics_allowance"

    def __init__(self, registry: CollectorRegistry, policy: Policy, vocabulary: Vocabulary) -> None:
        self._words, self._has = vocabulary, frozenset[str]()
        by_resource, by_kind = ("deployment", "resource"), ("deployment", "kind")
        self._size = Gauge(
            registry, "router_account_quota_per_min", "What its account may ask for in a minute.", by_resource
        )
        self._used = Gauge(
            registry,
            "router_account_quota_used_ratio",
            "Share of a minute's quota that has not come back.",
            by_resource,
        )
        self._tokens = Counter(
            registry, "router_prompt_cache_tokens", "Input tokens read from and written to prompt caches.", by_kind
        )
        self._usd = Counter(
            registry,
            "router_prompt_cache_usd",
            "Dollars that reading has saved against computing, and that writing has cost on top of it.",
            by_kind,
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Forget quotas of what is gone; caches begin at 0."""
        names = frozenset(self._words.deployments[d.name] for d in policy.deployments)
        gone, self._has = self._has - names, names
        for gauge in (self._size, self._used):
            gauge.forget(lambda labels: labels[0] in gone)
        for counter in (self._tokens, self._usd):
            counter.create(product(sorted(names), KINDS))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {AllowanceObserved: self._on_observed, AttemptEnded: self._on_attempt}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_observed(self, event: AllowanceObserved) -> None:
        name = self._words.deployments[event.deployment]
        sizes, used = (event.requests_per_min, event.tokens_per_min), (event.requests_ratio, event.tokens_ratio)
        for resource, size, ratio in zip(RESOURCES, sizes, used, strict=True):
            if size is not None:
                self._size.put((name, resource), size)
                self._used.put((name, resource), ratio)

    def _on_attempt(self, event: AttemptEnded) -> None:
        outcome = event.outcome
        if not outcome.cached_tokens and not outcome.cache_written_tokens:
            return
        deployment = outcome.attempt.deployment
        name, price = self._words.deployments[deployment.name], deployment.price
        plain, read, write = price.input_usd_per_mtok, price.cache_read_usd_per_mtok, price.cache_write_usd_per_mtok
        saved = 0.0 if read is None else plain - read
        extra = 0.0 if write is None else write - plain
        for kind, tokens, usd in (
            ("read", outcome.cached_tokens, saved),
            ("write", outcome.cache_written_tokens, extra),
        ):
            self._tokens.add((name, kind), tokens)
            self._usd.add((name, kind), max(tokens * usd, 0.0) * 1e-6)
