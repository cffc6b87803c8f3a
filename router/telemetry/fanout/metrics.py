"""Requests in parts: how many, of how many parts, how they ended, and what answering them side by side has saved."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.control.fanout import FanoutEnded
from router.policy.policy import Policy
from router.telemetry.series import Counter
from router.telemetry.sink import Handlers

REQUESTS = ("completed", "partial", "failed", "refused", "cancelled")
PARTS = ("completed", "recalled", "failed", "cancelled")
MERGES = ("completed", "failed")


class FanoutMetrics:
    """Parts over requests is the mean width; `router_fanout_part_seconds_total` over `router_fanout_seconds_total` how
    many times faster they came than one after another. Each part counts as a request of its own besides."""

    name = "metrics_fanout"

    def __init__(self, registry: CollectorRegistry, policy: Policy) -> None:
        self._requests = Counter(
            registry, "router_fanout_requests", "Requests in parts, by how they ended.", ("status",)
        )
        self._parts = Counter(registry, "router_fanout_parts", "Their parts, by how they ended.", ("status",))
        self._merges = Counter(registry, "router_fanout_merges", "Merges of their answers.", ("status",))
        self._seconds = Counter(registry, "router_fanout_seconds", "Seconds that requests in parts took.")
        self._parts_s = Counter(
            registry, "router_fanout_part_seconds", "Seconds that their parts took, added up: as if one by one."
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0; no policy names any."""
        for counter, values in ((self._requests, REQUESTS), (self._parts, PARTS), (self._merges, MERGES)):
            counter.create((value,) for value in values)
        for plain in (self._seconds, self._parts_s):
            plain.create(((),))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {FanoutEnded: self._on_ended}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_ended(self, event: FanoutEnded) -> None:
        self._requests.add((event.status,))
        counts = (event.completed, event.recalled, event.failed, event.cancelled)
        for status, count in zip(PARTS, counts, strict=True):
            self._parts.add((status,), count)
        if event.merge:
            self._merges.add((event.merge,))
        self._seconds.add((), event.seconds)
        self._parts_s.add((), event.parts_s)
