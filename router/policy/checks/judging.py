"""Judges: who may see what, and what a measuring instrument should not measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.domain.deployment import Deployment
from router.domain.errors import PolicyError
from router.domain.slo import Judge, RequestClass
from router.policy.checks.money import TYPICAL_TOKENS
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem
from router.policy.policy import Policy
from router.policy.written import Written
from router.routing.filters import may_see, serves

_VERDICT_TOKENS = 30
"""Output tokens of a short verdict."""


def judges_of(judge: Judge, fleet: Sequence[Deployment]) -> tuple[Deployment, ...]:
    """The deployments that a judge's name stands for."""
    return tuple(d for d in fleet if judge.deployment in (d.name, d.group))


def check_judges(
    written: Written, classes: Sequence[RequestClass], fleet: Sequence[Deployment]
) -> Iterator[PolicyError]:
    """Classes that name a judge which may not see their data. One that comes from the defaults is only warned of."""
    places = {w.spec.name: w for w in written.classes}
    for request_class in classes:
        judge, place = request_class.judge, places.get(request_class.name)
        if judge is None or place is None or place.spec.judge is None:
            continue
        found = judges_of(judge, fleet)
        if found and not any(may_see(request_class, d) for d in found):
            yield place.source.problem((*place.path, "judge", "deployment"), _unseen(request_class, judge))


def check_judging(policy: Policy, places: Places) -> Iterator[Problem | None]:
    """A judge of its own answers, one that may not see the data, and a budget that judges nothing."""
    for request_class in policy.classes:
        judge, name = request_class.judge, request_class.name
        if judge is None:
            continue
        deployment, found = ("judge", "deployment"), judges_of(judge, policy.deployments)
        if found and not any(may_see(request_class, d) for d in found):
            yield places.warn("judge_unused", name, deployment, _unseen(request_class, judge))
        models = {d.model for d in found}
        if any(d.model in models for d in policy.deployments if serves(request_class, d)):
            message = f"`{judge.deployment}` judges answers of its own model, which may serve `{name}`: models rate "
            message += "their own answers too well; name one that the class does not use"
            yield places.warn("judges_itself", name, deployment, message)
        usual = min((d.price.cost_usd(2 * TYPICAL_TOKENS[0], _VERDICT_TOKENS) for d in found), default=0.0)
        if usual > judge.usd_per_day:
            message = f"nothing is judged: judging a usual answer costs {usual:.3g} USD"
            yield places.warn("judge_budget", name, ("judge", "usd_per_day"), message)


def _unseen(request_class: RequestClass, judge: Judge) -> str:
    tags = ", ".join(request_class.residency)
    return f"`{judge.deployment}` may not see the answers it would judge: it does not carry {tags} of `residency`"
