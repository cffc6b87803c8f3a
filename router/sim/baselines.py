"""What the router is compared with: other pickers in the same dispatcher.

All but the clairvoyant are in `router.routing.pickers`. The clairvoyant is greedy on what nobody can know: exact server
state, the length of the answer and whether the small model's will be adequate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

from router.domain.decision import Candidate
from router.domain.deployment import Tier
from router.domain.slo import Objectives
from router.domain.view import DeploymentView
from router.routing.need import Need
from router.routing.pickers import AlwaysTier, LeastOutstanding, Picker, RoundRobin, StaticThreshold, Uniform
from router.sim.run import Setting
from router.sim.workload import WorkloadTruth

FLOOR = 0.90
"""The share adequate that `static-threshold` is calibrated to."""
_SMALL_MARGIN = 0.95
_LARGE_RESERVED = 0.57
_LARGE_MARGIN = 0.95

NAMES = (
    "always-small",
    "always-large",
    "random",
    "round-robin",
    "least-outstanding",
    "static-threshold",
    "clairvoyant",
)


class Oracle(Protocol):
    """What only the simulation knows."""

    def predict(self, deployment: str, input_tokens: int, output_tokens: int) -> tuple[float, float]:
        """TTFT and TPOT in seconds of a request sent now, if nothing else were sent after it."""
        ...


class Clairvoyant:
    """Adequate ones to small if predicted within .95 of the objectives, else to large if within .57; the rest to large
    if within .95; else shed."""

    name = "clairvoyant"

    def __init__(self, truth: WorkloadTruth, oracle: Oracle) -> None:
        self._truth = truth
        self._oracle = oracle

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """By truth."""
        small = self._best(Tier.SMALL, views, need)
        large = self._best(Tier.LARGE, views, need)
        adequate = small is not None and self._adequate(views[small[1]].deployment.model, need)
        if small is not None and adequate and small[0] <= _SMALL_MARGIN:
            return _only(small[1], views)
        if large is not None and large[0] <= (_LARGE_RESERVED if adequate else _LARGE_MARGIN):
            return _only(large[1], views)
        return None, []

    def _adequate(self, model: str, need: Need) -> bool:
        floor = need.request_class.floor
        reference = None if floor is None else floor.reference
        return self._truth.adequate(need.request.id, model, reference=reference) is not False

    def _best(self, tier: Tier, views: Sequence[DeploymentView], need: Need) -> tuple[float, int] | None:
        """The deployment of a tier whose prediction is the smallest part of the objectives."""
        parts = [(self._part(v, need), i) for i, v in enumerate(views) if v.deployment.tier is tier]
        return min(parts, default=None)

    def _part(self, view: DeploymentView, need: Need) -> float:
        request, model = need.request, view.deployment.model
        output = self._truth.answer(request, model).output_tokens
        ttft, tpot = self._oracle.predict(view.deployment.name, request.input_tokens, output)
        objectives: Objectives = need.request_class.objectives
        parts = [0.0]
        if objectives.ttft is not None:
            parts.append((ttft + need.waited_s) / objectives.ttft.threshold_s)
        if objectives.tpot is not None:
            parts.append(tpot / objectives.tpot.threshold_s)
        if objectives.e2e is not None:
            parts.append((ttft + tpot * (output - 1) + need.waited_s) / objectives.e2e.threshold_s)
        return max(parts)


def make(name: str, setting: Setting, oracle: Oracle) -> Picker:
    """A baseline's picker by its name in the report."""
    if name == "static-threshold":
        return StaticThreshold(static_threshold(_estimates(setting)))
    if name == "clairvoyant":
        return Clairvoyant(WorkloadTruth(setting.workload), oracle)
    return _SIMPLE[name]()


_SIMPLE: Mapping[str, Callable[[], Picker]] = {
    "always-small": lambda: AlwaysTier(Tier.SMALL),
    "always-large": lambda: AlwaysTier(Tier.LARGE),
    "random": Uniform,
    "round-robin": RoundRobin,
    "least-outstanding": LeastOutstanding,
}


def _estimates(setting: Setting) -> list[tuple[float, float]]:
    """P(adequate) of the small and of the large model for every request, as the run's estimator gives them."""
    fleet = setting.policy.deployments
    small = next((d for d in fleet if d.tier is Tier.SMALL), fleet[0])
    large = next((d for d in fleet if d.tier is Tier.LARGE), fleet[0])
    pairs = []
    for number in range(len(setting.workload.arrivals)):
        scored = setting.estimator.estimate(setting.workload.request(number, now=0.0, at=0.0))
        pairs.append((scored.of(small.model, small.tier), scored.of(large.model, large.tier)))
    return pairs


def static_threshold(estimates: Sequence[tuple[float, float]]) -> float:
    """The least threshold whose calibrated mean adequacy reaches the floor: requests with P(small adequate) at or
    above it go to small, the rest to large. Infinite where even all-large does not reach it."""
    pairs = sorted(estimates, reverse=True)
    total = sum(p_large for _, p_large in pairs)
    best = float("inf")
    for index, (p_small, p_large) in enumerate(pairs):
        total += p_small - p_large
        last_of_ties = index + 1 == len(pairs) or pairs[index + 1][0] < p_small
        if last_of_ties and total / len(pairs) >= FLOOR:
            best = p_small
    return best


def _only(index: int, views: Sequence[DeploymentView]) -> tuple[int | None, list[float]]:
    return index, [1.0 if i == index else 0.0 for i in range(len(views))]
