"""What is earned, and what was predicted of it?

`slo_met`, `useful` and `cost_per_1k_usd` are of every request, `quality` of those that are sent to a deployment, where
an answer that never came counts 0. Useful is in time and at least half good, as the router takes feedback. Promises are
those of each policy's own class; the new policy's are judged by the latencies that were seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import Struct

from router.domain.decision import Terms
from router.domain.deployment import Deployment
from router.domain.slo import RequestClass
from router.sim.off_policy.cases import Case
from router.slo.judge import judge

_ADEQUATE = 0.5
_PER = 1000.0
Stratum = tuple[str, str]


class Judged(Struct, frozen=True):
    """How a request ended, by the promises and prices of one policy."""

    answered: bool
    slo_met: bool
    told: float | None
    cost_usd: float


class Metric(Struct, frozen=True):
    """A mean of rewards. `gain` is +1 where more is better, `most` the largest reward, `hangs` whether a reward hangs
    on feedback; `of_served` leaves out what is not sent to a deployment."""

    name: str
    gain: int
    predicted: Callable[[Terms], float]
    observed: Callable[[Judged], float | None]
    most: float | None = 1.0
    hangs: Callable[[Judged], bool] | None = None
    of_served: bool = False


def _quality(one: Judged) -> float | None:
    return one.told if one.answered else 0.0


def _useful(one: Judged) -> float | None:
    if not one.slo_met:
        return 0.0
    return None if one.told is None else float(one.told >= _ADEQUATE)


METRICS = (
    Metric("quality", 1, lambda t: t.p_adequate, _quality, hangs=lambda j: j.answered, of_served=True),
    Metric("slo_met", 1, lambda t: t.p_slo, lambda j: float(j.slo_met)),
    Metric("useful", 1, lambda t: t.p_slo * t.p_adequate, _useful, hangs=lambda j: j.slo_met),
    Metric("cost_per_1k_usd", -1, lambda t: t.cost_usd * _PER, lambda j: j.cost_usd * _PER, most=None),
)


def as_it_was(case: Case) -> Judged:
    """By the promises and prices in force then."""
    outcome = case.outcome
    return Judged(outcome.status == "completed", outcome.slo_met, case.told, outcome.cost_usd)


def as_promised(case: Case, request_class: RequestClass, old: Deployment | None, new: Deployment | None) -> Judged:
    """By the promises of another class, and by the price of the deployment that answered where that has changed."""
    outcome, answered = case.outcome, case.outcome.status == "completed"
    objectives = request_class.objectives
    met = judge(objectives, ttft_s=outcome.ttft_s, tpot_s=outcome.tpot_s, e2e_s=outcome.e2e_s, answered=answered)
    cost_usd = outcome.cost_usd
    if old is not None and new is not None and old.price != new.price and outcome.answer_cost_usd is not None:
        cost_usd += new.price.cost_usd(outcome.input_tokens, outcome.output_tokens) - outcome.answer_cost_usd
    return Judged(answered, answered and all(ok for _, ok in met), case.told, cost_usd)


def told_shares(metric: Metric, judged: Sequence[Judged], strata: Sequence[Stratum]) -> list[float]:
    """For each request, the share of its class and deployment that feedback came of, among those it is needed of; 1
    where the reward is known without."""
    if metric.hangs is None:
        return [1.0] * len(judged)
    asked, told = Counter[Stratum](), Counter[Stratum]()
    hanging = [metric.hangs(one) for one in judged]
    for one, stratum, hangs in zip(judged, strata, hanging, strict=True):
        if hangs:
            asked[stratum] += 1
            told[stratum] += one.told is not None
    return [told[s] / asked[s] if hangs else 1.0 for s, hangs in zip(strata, hanging, strict=True)]


def untold(metric: Metric, judged: Sequence[Judged], strata: Sequence[Stratum]) -> frozenset[Stratum]:
    """Classes and deployments of which no feedback ever came, though rewards hang on it."""
    if metric.hangs is None:
        return frozenset()
    told = {s for one, s in zip(judged, strata, strict=True) if one.told is not None}
    return frozenset(s for one, s in zip(judged, strata, strict=True) if metric.hangs(one) and s not in told)
