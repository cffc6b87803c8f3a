"""Requests that were decided together: how many, in how many windows, and who was left for a later one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from router.domain.control.windows import WindowClosed
from router.policy.policy import Policy
from router.telemetry.series import Counter
from router.telemetry.sink import Handlers


class WindowMetrics:
    """`router_window_requests_total` over `router_windows_total` is the mean size of a window."""

    name = "metrics_windows"

    def __init__(self, registry: CollectorRegistry, policy: Policy) -> None:
        self._windows = Counter(registry, "router_windows", "Windows of requests that were decided together.")
        self._requests = Counter(
            registry, "router_window_requests", "Requests in them: decided, or kept for a later one.", ("fate",)
        )
        self.create(policy)

    def create(self, policy: Policy) -> None:
        """Series at 0; no policy names any."""
        self._windows.create(((),))
        self._requests.create((("decided",), ("kept",)))

    def handlers(self) -> Handlers:
        """One handler for each event type."""
        return {WindowClosed: self._on_closed}

    def flush(self) -> None:
        """Nothing is gathered."""

    def _on_closed(self, event: WindowClosed) -> None:
        self._windows.add(())
        self._requests.add(("decided",), event.decided)
        self._requests.add(("kept",), event.kept)
