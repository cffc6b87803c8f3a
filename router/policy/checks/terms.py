"""What one class, or the defaults, says against itself."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.errors import PolicyError
from router.domain.rollout import RolloutMode
from router.domain.slo import Indicator
from router.policy.compile_class import promises
from router.policy.parse import Path, Source
from router.policy.schema.classes import ClassTerms, ObjectiveTerms
from router.policy.schema.rollout import RolloutSpec
from router.policy.schema.treatment import BudgetSpec, CeilingSpec, SamplingSpec
from router.policy.schema.values import ratio_text
from router.policy.written import Written

_SHARES_TOLERANCE = 1e-6


def check_terms(written: Written) -> Iterator[PolicyError]:
    """Every contradiction inside the terms of a class, the defaults, or a parameter profile."""
    for source, path, terms in written.terms():
        yield from _check_objectives(source, path, terms)
        yield from _check_ceiling(source, (*path, "parameters"), terms.parameters)
        yield from _check_budget(source, (*path, "budget"), terms.budget)
        yield from _check_rollout(source, (*path, "rollout"), terms.rollout)
    for source in written.sources:
        for name, profile in source.document.profiles.items():
            yield from _check_ceiling(source, ("profiles", name), profile)


def _check_objectives(source: Source, path: Path, terms: ClassTerms) -> Iterator[PolicyError]:
    seen: set[Indicator] = set()
    for where, indicator, value in promises(terms):
        here = (*path, "objectives", where)
        if indicator in seen:
            yield source.problem(here, f"a second objective for {indicator}: keep one")
        seen.add(indicator)
        if not isinstance(value, ObjectiveTerms):
            continue
        if indicator is Indicator.AVAILABILITY and value.threshold is not None:
            message = "availability has no threshold: its target is the share that is answered"
            yield source.problem((*here, "threshold"), message, key=True)
        if indicator is not Indicator.AVAILABILITY and value.threshold is None and value.slo is None:
            yield source.problem(here, "missing required field `threshold`")


def _check_ceiling(source: Source, path: Path, sampling: SamplingSpec) -> Iterator[PolicyError]:
    ceiling, here = sampling.max_tokens, (*path, "max_tokens")
    if not isinstance(ceiling, CeilingSpec):
        return
    if ceiling.min > ceiling.max:
        yield source.problem((*here, "min"), f"`min` is above `max`, which is {ceiling.max}", key=True)
    elif isinstance(ceiling.start, int) and not ceiling.min <= ceiling.start <= ceiling.max:
        message = f"learning starts between `min` and `max`: write {ceiling.min} to {ceiling.max}"
        yield source.problem((*here, "start"), message)


def _check_budget(source: Source, path: Path, budget: BudgetSpec) -> Iterator[PolicyError]:
    request, day = budget.usd_per_request, budget.usd_per_day
    if request is not None and day is not None and request > day:
        message = f"one request may cost more than the {day:g} USD of a whole day"
        yield source.problem((*path, "usd_per_request"), message)
    mean = budget.mean_usd_per_request
    for field, limit in (("usd_per_request", request), ("usd_per_day", day)):
        if mean is not None and limit is not None and mean > limit:
            message = f"a mean of {mean:g} USD is never reached: `{field}` allows {limit:g} USD"
            yield source.problem((*path, "mean_usd_per_request"), message)
    if day is None and "when_spent" in budget.model_fields_set:
        yield source.problem((*path, "when_spent"), "nothing is ever spent: give `usd_per_day` too", key=True)


def _check_rollout(source: Source, path: Path, rollout: RolloutSpec) -> Iterator[PolicyError]:
    if rollout.percent is not None and rollout.steps is not None:
        yield source.problem((*path, "percent"), "`percent` and `steps` both say the first step: keep one", key=True)
    elif rollout.mode is RolloutMode.AB or "mode" not in rollout.model_fields_set:
        yield from (
            source.problem((*path, field), f"`{field}` is for a canary: write `mode: canary`", key=True)
            for field in ("percent", "steps")
            if getattr(rollout, field) is not None
        )
    if rollout.require is not None and not rollout.require.model_fields_set - {"decisions"}:
        message = "it asks for nothing: give `quality_low`, `slo_low` or `usd_per_request`"
        yield source.problem((*path, "require"), message, key=True)
    steps = rollout.steps or ()
    for i in range(1, len(steps)):
        if steps[i] <= steps[i - 1]:
            message = f"steps must rise, and {steps[i]:g} comes after {steps[i - 1]:g}"
            yield source.problem((*path, "steps", i), message)
    if rollout.mode is RolloutMode.AB:
        yield from _check_arms(source, path, rollout)
    elif rollout.arms and rollout.mode is not RolloutMode.LIVE:
        yield source.problem((*path, "arms"), "`arms` are only for `mode: ab`", key=True)


def _check_arms(source: Source, path: Path, rollout: RolloutSpec) -> Iterator[PolicyError]:
    here = (*path, "arms")
    if len(rollout.arms) < 2:
        yield source.problem(here, "an experiment compares two `arms` or more")
        return
    names: set[str] = set()
    for i, arm in enumerate(rollout.arms):
        if arm.name in names:
            yield source.problem((*here, i, "name"), f"a second arm called `{arm.name}`: rename one")
        names.add(arm.name)
        if arm.share == 0:
            yield source.problem((*here, i, "share"), "an arm without requests shows nothing: give it a share")
    total = sum(arm.share for arm in rollout.arms)
    if abs(total - 1) > _SHARES_TOLERANCE:
        yield source.problem(here, f"the shares of the arms add up to {ratio_text(total)}, not to 100%")
