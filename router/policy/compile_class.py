"""One request class as written to one as routed."""

from __future__ import annotations

from collections.abc import Iterator

from router.domain.deployment import Mode
from router.domain.rollout import Arm, Require, Rollout
from router.domain.slo import (
    Budget,
    CacheTerms,
    Cascade,
    Ceiling,
    Check,
    Indicator,
    Judge,
    Match,
    Objective,
    Objectives,
    Parameters,
    QualityFloor,
    RequestClass,
)
from router.policy.schema.classes import ClassSpec, ClassTerms, FloorTerms, MatchSpec, ObjectivesByName, ObjectiveTerms
from router.policy.schema.rollout import ArmSpec, RolloutSpec
from router.policy.schema.treatment import CascadeSpec, CeilingSpec, JudgeSpec, ParametersSpec, SamplingSpec

LENGTHS = {"short": 256, "medium": 1024, "long": 4096}
"""Where a learned `max_tokens` starts, by the word for it."""
_STEPS = (5.0, 25.0, 50.0)


def promises(terms: ClassTerms) -> Iterator[tuple[str | int, Indicator, float | ObjectiveTerms]]:
    """Each objective: its step in the path, its indicator, and its terms or its short form."""
    if isinstance(terms.objectives, ObjectivesByName):
        for indicator in Indicator:
            value = getattr(terms.objectives, indicator.value)
            if value is not None:
                yield indicator.value, indicator, value
    else:
        for i, item in enumerate(terms.objectives):
            yield i, item.indicator, item


def compile_class(spec: ClassSpec, defaults: ClassTerms | None, mode: Mode = Mode.ACT) -> RequestClass:
    """One class; what it does not say comes from the defaults, field by field, and `mode` from the document."""
    inherited = () if defaults is None else defaults.model_fields_set - spec.model_fields_set
    terms = spec.model_copy(update={field: getattr(defaults, field) for field in inherited})
    if defaults is not None and "parameters" not in inherited:
        terms = terms.model_copy(update={"parameters": _over(defaults.parameters, spec.parameters)})
    return RequestClass(
        name=spec.name,
        match=compile_match(spec.match),
        objectives=_objectives(terms),
        floor=_floor(terms),
        goal=terms.goal,
        deadline_s=terms.deadline,
        past_deadline=terms.past_deadline,
        priority=terms.priority,
        sheddable=terms.sheddable,
        deployments=terms.deployments,
        forced=terms.forced,
        residency=terms.residency,
        fallback=terms.fallback,
        profile=None if terms.parameters.profile == "none" else terms.parameters.profile,
        parameters=sampling(terms.parameters),
        style=terms.style,
        input_budget_tokens=terms.input_budget,
        exploration_ratio=terms.exploration,
        max_retries=terms.max_retries,
        hedge_after_s=terms.hedge_after,
        budget=Budget(**terms.budget.model_dump()),
        cache=None if (c := terms.cache) is None else CacheTerms(c.ttl, c.when == "always", c.max_entries),
        cascade=None if terms.cascade is None else _cascade(terms.cascade),
        judge=None if (j := terms.judge) is None else Judge(*(getattr(j, field) for field in JudgeSpec.model_fields)),
        batch_wait_s=terms.batch_wait,
        patience_s=terms.patience,
        rollout=_rollout(terms.rollout),
        mode=terms.mode or mode,
    )


def _over(general: ParametersSpec, own: ParametersSpec) -> ParametersSpec:
    """Parameters of a class, field by field over those of the defaults."""
    return general.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


def compile_match(spec: MatchSpec) -> Match:
    """The conditions of a class."""
    return Match(
        classes=spec.classes,
        topics=spec.topics,
        tenants=spec.tenants,
        models=spec.models,
        use_cases=spec.use_cases,
        attributes=tuple(sorted(spec.attributes.items())),
        min_input_tokens=spec.input_tokens.min,
        max_input_tokens=spec.input_tokens.max,
    )


def _objectives(terms: ClassTerms) -> Objectives:
    return Objectives(**{indicator.value: _objective(indicator, value) for _, indicator, value in promises(terms)})


def _objective(indicator: Indicator, value: float | ObjectiveTerms) -> Objective:
    """Availability has no threshold: what is answered is good."""
    if not isinstance(value, ObjectiveTerms):
        availability = indicator is Indicator.AVAILABILITY
        return Objective(indicator, 0.0, target=value) if availability else Objective(indicator, value)
    window = value.time_window
    window_s = window if isinstance(window, float) else window[0].duration
    return Objective(indicator, value.threshold or 0.0, value.target, window_s)


def _floor(terms: ClassTerms) -> QualityFloor | None:
    floor = terms.floor
    if isinstance(floor, FloorTerms):
        return QualityFloor(floor.ratio, floor.reference, floor.under_overload)
    return None if floor is None else QualityFloor(floor)


def sampling(spec: SamplingSpec) -> Parameters:
    """Parameters with a fixed or a learned ceiling."""
    asked = spec.max_tokens
    fixed = asked if isinstance(asked, int) else None
    ceiling = None
    if isinstance(asked, str):
        ceiling = Ceiling(LENGTHS[asked])
    elif isinstance(asked, CeilingSpec):
        start = asked.start if isinstance(asked.start, int) else LENGTHS[asked.start]
        ceiling = Ceiling(min(max(start, asked.min), asked.max), asked.min, asked.max, asked.truncated)
    return Parameters(spec.temperature, spec.top_p, spec.top_k, fixed, ceiling)


def _cascade(spec: CascadeSpec) -> Cascade:
    """The checks in the order in which they run, whatever the order they are written in."""
    checks = tuple(check for check in Check if check in spec.checks)
    return Cascade(checks, spec.stream, spec.max_wait, None if spec.threshold == "auto" else spec.threshold)


def _rollout(spec: RolloutSpec) -> Rollout:
    steps = spec.steps
    if steps is None:
        first = spec.percent or _STEPS[0]
        steps = (first, *(s for s in _STEPS if s > first))
    return Rollout(
        mode=spec.mode,
        by=spec.by,
        steps=tuple(round(s / 100, 9) for s in steps),
        step_s=spec.step,
        min_requests=spec.min_requests,
        fast_burn=spec.fast_burn,
        arms=tuple(_arm(a) for a in spec.arms),
        measure=spec.measure,
        confidence_ratio=spec.confidence,
        require=None if spec.require is None else Require(**spec.require.model_dump()),
    )


def _arm(spec: ArmSpec) -> Arm:
    return Arm(
        name=spec.name,
        share_ratio=spec.share,
        profile=spec.profile,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        max_tokens=spec.max_tokens,
        style=None if spec.style is None else spec.style.value,
        deployments=spec.deployments,
        input_budget_tokens=spec.input_budget,
    )
