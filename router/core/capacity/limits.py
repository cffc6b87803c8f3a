"""Which bounds hold a deployment by what the operator wrote: on calls, on tokens, on a batch."""

from __future__ import annotations

from router.control.advised_limit import AdvisedLimit
from router.control.batching import BatchTuner
from router.control.limits import COLD, KINDS, FixedLimit, Limit, Room, Stand, TokenLimit
from router.domain.deployment import Deployment, Kind, LimitKind, Mode
from router.policy.policy import Bounds

_JOBS_AT_ONCE = 10
"""Full batch jobs that may wait or run where nothing says how many requests may."""


def limit_bounds(deployment: Deployment, bounds: Bounds) -> tuple[float, float]:
    """The least and the most calls that may be in flight."""
    if deployment.job is not None:
        return 1.0, float(deployment.max_in_flight or _JOBS_AT_ONCE * deployment.job.max_records)
    terms, high = deployment.limit, float(min(deployment.max_in_flight or bounds.limit_max, bounds.limit_max))
    if terms.kind is LimitKind.FIXED and terms.requests is not None:
        high = min(high, float(terms.requests))
    return float(min(bounds.limit_min, high)), high


def limit_of(deployment: Deployment, bounds: Bounds, start: float | None = None) -> Limit:
    """A limit that begins at `start`, else where the policy says, else where its kind does."""
    low, high = limit_bounds(deployment, bounds)
    if deployment.kind in (Kind.BATCH, Kind.JOB):
        return FixedLimit(high)
    terms = deployment.limit
    if terms.kind is LimitKind.FIXED:
        return FixedLimit(high)
    begins = start or terms.requests or COLD.get(terms.kind)
    limit = KINDS[terms.kind](Stand(deployment.name, low=low, high=high, start=begins))
    return AdvisedLimit(limit, low, high) if deployment.mode is Mode.ADVISE else limit


def token_limit_of(deployment: Deployment) -> TokenLimit:
    """The bound on tokens, where it is written from there on."""
    return TokenLimit(deployment.name, deployment.limit.tokens, is_advice=deployment.mode is Mode.ADVISE)


def room_of(deployment: Deployment, bounds: Bounds) -> Room:
    """The bound on calls that a full server shows."""
    least, _ = limit_bounds(deployment, bounds)
    return Room(deployment.name, least=least, is_advice=deployment.mode is Mode.ADVISE)


def tuner_of(deployment: Deployment, bounds: Bounds) -> BatchTuner | None:
    """What sizes the batches of an endpoint that takes them."""
    if deployment.kind is not Kind.BATCH:
        return None
    return BatchTuner(deployment.batch, max_items=most_items(deployment, bounds))


def most_items(deployment: Deployment, bounds: Bounds) -> int:
    """Largest batch: no larger than what may be in flight, or it would wait for items that cannot come."""
    return min(deployment.max_items, bounds.batch_items_max, int(limit_bounds(deployment, bounds)[1]))
