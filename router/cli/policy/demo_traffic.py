"""Something to try a policy on where nothing was recorded yet: the demo's stream on the policy's own fleet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from router.backends.simulated_fleet import FleetSpec
from router.backends.simulated_like import fleet_like
from router.demo.stream import DemoRequest, requests
from router.demo.truth import DemoTruth
from router.domain.deployment import Deployment
from router.domain.errors import RouterError
from router.sim.workload import Arrival, Workload
from router.wire.openai import text_tokens

SECONDS, PER_S = 900.0, 4.0
_SEED = 7


def demo_workload(models: Sequence[str], *, seconds: float = SECONDS) -> Workload:
    """So much of the demo's stream: a mix of use cases with bursts, prompts and the truth of each of the models."""
    truth = DemoTruth()
    stream = takewhile(lambda r: r.at_s < seconds, requests(seed=_SEED, per_s=PER_S))
    return Workload(tuple(_arrival(request, models, truth) for request in stream))


def _arrival(request: DemoRequest, models: Sequence[str], truth: DemoTruth) -> Arrival:
    truth.announce(request)
    quality = {model: truth.quality(request.id, model) or 0.0 for model in models}
    return Arrival(
        at_s=request.at_s,
        input_tokens=round(text_tokens(f"{request.system} {request.prompt}")),
        output_tokens=request.output_tokens,
        tenant=request.tenant,
        deadline_s=float(request.expiry_s),
        prompt=request.prompt,
        quality=quality,
    )


def own_fleet(deployments: Sequence[Deployment]) -> FleetSpec:
    """Servers and job lanes that behave as the figures of a policy's deployments say, whatever their backend."""
    spec = fleet_like(deployments, every=True)
    if spec is None:
        raise RouterError("the policy has no deployments that can be simulated: say --fleet FILE")
    return spec
