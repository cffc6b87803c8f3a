"""What the decision sees of one deployment, frozen at one instant."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from router.domain.decision import Spread
from router.domain.deployment import Deployment


class Health(StrEnum):
    """Circuit state of a deployment."""

    OK = "ok"
    PROBING = "probing"
    OPEN = "open"


class Load(Struct, frozen=True, gc=False):
    """What is in flight on a deployment: from the local ledger, corrected by scraped load where there is some."""

    sequences: int
    waiting_sequences: int
    waiting_tokens: int
    context_tokens: float


class ScrapedLoad(Struct, frozen=True):
    """A server's own account of itself, as of `observed` (monotonic seconds)."""

    deployment: str
    running: int
    waiting: int
    kv_ratio: float | None
    observed: float


class DeploymentView(Struct, frozen=True, gc=False):
    """One candidate as the five families see it, filled in one place: `core.views`."""

    deployment: Deployment
    blocked: str
    """Why no call may go there now; empty where one may."""
    load: Load
    limit: float | None
    p_adequate: float
    p_adequate_low: float
    output_tokens: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    p_slo: float
    cost_usd: float
    work_s: float
    """Server seconds this request is expected to take of the deployment."""
    pressure: float | None
    """How hard the prediction presses on the objectives: 1 is at the tightest. `None` where the deployment could not be
    in time if it were idle."""
    capacity_price: float
    quota_ok: bool
    quota_fits: bool
    """Whether full token buckets would ever hold the request."""
    spread: Spread | None = None
    """How far the latencies predicted of the deployment are off; the same object from one heartbeat to the next."""
    fallen: bool = False
    """Its model answers worse than it did; `p_adequate` is its lower bound until it is known again."""
    bid_usd: float = 0.0
    """What the reserved tokens that the request would use are worth to those who come next; 0 where none are."""
    token_limit: float | None = None
    """Tokens that may be held there at once; `None` where no bound is known."""
    cached_tokens: float = 0.0
    """Input tokens that are expected to be read from its prompt cache."""
