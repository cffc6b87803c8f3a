"""A scenario from beginning to end: the router on the stage, the best fixed setting on the same, and what is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from router.backends.simulated_fleet import deployments
from router.complexity.estimator import Estimator
from router.domain.deployment import Deployment, Tier
from router.policy.match import ClassMatcher
from router.sim.report import totals
from router.sim.run import Setting
from router.sim.run import play as run
from router.sim.scenarios.assessed import Figures, PhaseFigures, Stand, assess, floor_holds, floor_of, whole
from router.sim.scenarios.course import Course, course
from router.sim.scenarios.fixed import Asked, FixedRun
from router.sim.scenarios.hindsight import runs, search
from router.sim.scenarios.staging import Stage

Progress = Callable[[float], None]
"""The part that is done, from 0 to 1."""
EstimatorMaker = Callable[[Iterable[Deployment]], Estimator]
_A_RUN = 6.0
"""What a run of the router takes of time, in runs of a fixed setting."""


class Promise(Struct, frozen=True):
    """The floor that the policy promises, and whether it holds under overload."""

    ratio: float
    holds: bool


class Told(Struct, frozen=True):
    """The report of one scenario. `overall` and `best_overall` are totals of all requests, as `router simulate` gives
    them for a workload."""

    scenario: str
    title: str
    question: str
    seed: int
    policy: str
    window_s: float
    figures: Figures
    phases: tuple[PhaseFigures, ...]
    floor: Promise | None
    telemetry_lags: tuple[tuple[float, float], ...]
    tiers: dict[str, str]
    """Tier by deployment."""
    ours: Course
    best: Course
    stands: dict[str, Stand]
    overall: dict[str, object]
    best_overall: dict[str, object]
    decision_us: dict[str, float | None]
    wall_s: float


def tell(stage: Stage, estimator: Estimator, progress: Progress | None = None) -> Told:
    """Play a staged scenario. `estimator` gives P(adequate) to the router and to the fixed settings alike."""
    started = time.perf_counter()
    scenario, rest = stage.scenario, runs(stage)
    share = _A_RUN / (_A_RUN + rest)

    def first(done: int, total: int) -> None:
        assert progress is not None
        progress(share * done / total)

    def then(done: int, total: int) -> None:
        assert progress is not None
        progress(share + (1.0 - share) * done / total)

    played = run(
        Setting(
            workload=stage.workload,
            fleet=stage.fleet,
            policy=stage.policies[0],
            estimator=estimator,
            seed=stage.seed,
            feedback_ratio=scenario.feedback_ratio,
            edits=stage.edits,
            telemetry_lags=stage.lags,
        ),
        progress=None if progress is None else first,
    )
    fleet = deployments(stage.fleet)
    asked = _asked(stage, estimator)
    fixed = FixedRun(stage.workload, asked, stage.fleet, fleet, seed=stage.seed)
    best = search(stage, fixed, None if progress is None else then)
    ours, theirs = course(stage, asked, played.served), course(stage, asked, best.served)
    stands = _stands(cast(Mapping[str, Any], played.report["by_deployment"]))
    phases = assess(stage, ours, theirs, stands, best.settings)
    floor = floor_of(stage)
    return Told(
        scenario=scenario.name,
        title=scenario.title,
        question=scenario.question,
        seed=stage.seed,
        policy=stage.policies[0].digest,
        window_s=ours.ends_s[0],
        figures=whole(phases, ours, theirs),
        phases=phases,
        floor=None if floor is None else Promise(floor.ratio, floor_holds(floor)),
        telemetry_lags=stage.lags if any(lag for _, lag in stage.lags) else (),
        tiers={str(d.name): d.tier.value for d in fleet},
        ours=ours,
        best=theirs,
        stands=stands,
        overall=cast(dict[str, object], played.report["overall"]),
        best_overall=totals(best.served),
        decision_us=cast(dict[str, "float | None"], played.report["decision_us"]),
        wall_s=round(time.perf_counter() - started, 3),
    )


def _asked(stage: Stage, estimator: Estimator) -> Sequence[Asked]:
    """Each request's estimate, and its class in the policy that is in force when it comes."""
    matchers = [ClassMatcher(policy.classes) for policy in stage.policies]
    small = next(d for d in stage.policies[0].deployments if d.tier is Tier.SMALL)
    found = []
    for number, row in enumerate(stage.workload.arrivals):
        request = stage.workload.request(number, now=row.at_s, at=row.at_s)
        scored = estimator.estimate(request)
        matcher = matchers[stage.scenario.phase_at(row.at_s)]
        found.append(Asked(scored.of(small.model, small.tier), matcher.classify(request, scored.use_case)))
    return found


def _stands(by_deployment: Mapping[str, Any]) -> dict[str, Stand]:
    return {
        name: Stand(*(tuple(one["over_time"][field]) for field in ("at_s", "in_flight", "limit")))
        for name, one in by_deployment.items()
    }
