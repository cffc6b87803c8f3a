"""A simulated fleet that behaves like the deployments of a policy."""

from __future__ import annotations

from collections.abc import Iterable

from router.backends.simulated_fleet import BatchMs, DeploymentSpec, FleetSpec, StepMs, TokenPrices, TokensPerMin
from router.backends.simulated_jobs.terms import like
from router.control.profiles import profile_for
from router.domain.deployment import BatchProfile, Deployment, Kind

_BATCH = BatchProfile(base_s=0.03, per_item_s=0.002)
"""A batch endpoint nobody described: 30 ms and 2 ms an item."""


def fleet_like(deployments: Iterable[Deployment], *, every: bool = False) -> FleetSpec | None:
    """Servers that behave as the deployments' profiles say, or as the measured figures of their models; `None` where
    no deployment is simulated. With `every`, also for those that are real."""
    specs = tuple(_spec(d) for d in deployments if every or d.address.backend == "simulated")
    return FleetSpec(specs) if specs else None


def _spec(deployment: Deployment) -> DeploymentSpec:
    price, quota = deployment.price, deployment.quota
    batch = deployment.batch or _BATCH
    return DeploymentSpec(
        name=deployment.name,
        model=deployment.model,
        tier=deployment.tier,
        kind=deployment.kind,
        price_usd_per_mtok=TokenPrices(price.input_usd_per_mtok, price.output_usd_per_mtok),
        step_ms=None if deployment.kind in (Kind.BATCH, Kind.JOB) else _step(deployment),
        batch_ms=BatchMs(batch.base_s * 1e3, batch.per_item_s * 1e3) if deployment.kind is Kind.BATCH else None,
        max_items=deployment.max_items,
        tokens_per_min=None
        if quota is None
        else TokensPerMin(round(quota.input_tokens_per_min), round(quota.output_tokens_per_min)),
        hourly_usd=price.hourly_usd,
        job=None if deployment.job is None else like(deployment.job),
    )


def _step(deployment: Deployment) -> StepMs:
    profile = deployment.step or profile_for(deployment.model, deployment.tier)
    return StepMs(
        base=profile.base_s * 1e3,
        per_sequence=profile.per_sequence_s * 1e3,
        per_context_token=profile.per_context_token_s * 1e3,
        per_prefill_token=profile.per_prefill_token_s * 1e3,
    )
