"""The compiled policy: one immutable snapshot that a decision is made under."""

from __future__ import annotations

from msgspec import Struct

from router.domain.deployment import Deployment
from router.domain.slo import Parameters, RequestClass


class Bounds(Struct, frozen=True):
    """Limits on everything the controller tunes by itself; it moves only inside them."""

    limit_min: int = 1
    limit_max: int = 1024
    queue_requests: int = 10_000
    queue_wait_s: float = 60.0
    floor_price_max: float = 8.0
    capacity_price_max: float = 20.0
    batch_items_max: int = 256
    window_s: float = 0.003
    tenant_queue_ratio: float = 1.0
    """Share of the places in the queue that one tenant may have."""
    fanout_parts: int = 16
    """Most parts of one request, and how many of them are under way at once at most."""
    fanout_parallel: int = 16

    @property
    def tenant_queue_requests(self) -> int:
        """Most requests of one tenant in the queue."""
        return max(int(self.tenant_queue_ratio * self.queue_requests), 1)


class Policy(Struct, frozen=True):
    """What the operator asked. Classes in order, the first that matches wins; the last matches everything."""

    digest: str
    classes: tuple[RequestClass, ...]
    deployments: tuple[Deployment, ...]
    bounds: Bounds = Bounds()
    usd_per_useful: float = 0.02
    """What one useful answer is worth, in USD: the exchange rate between quality and cost."""
    profiles: tuple[tuple[str, Parameters], ...] = ()
    """Parameter profiles by name, those that ship with the router among them."""
    tenants: dict[str, float] = {}
    """Weight of a tenant where tenants compete; who is not named weighs 1."""
