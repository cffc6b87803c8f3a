"""A class that runs an experiment: arms beside each other with fixed shares, until one is surely better."""

from __future__ import annotations

from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from router.core.rollouts.evidence import Evidence, all_judged
from router.core.rollouts.table import place_of, version_of
from router.domain.events import RolloutChanged
from router.domain.request import Request
from router.domain.rollout import Arm, Measure
from router.domain.slo import RequestClass, Style
from router.stats.confidence import MeanSequence, Scale


class SavedExperiment(Struct, frozen=True):
    """What a checkpoint keeps of an experiment: whether it was decided, and by which arms."""

    request_class: str
    version: str
    winner: str = ""


class Experiment:
    """The arms of one class. Each arm's interval is at the risk of the whole test divided by the arms, so that the
    order of any two is wrong with at most that risk however often it is looked at (union bound)."""

    def __init__(self, request_class: RequestClass) -> None:
        self.request_class = request_class
        self.version = _version(request_class)
        terms = request_class.rollout
        risk = (1.0 - terms.confidence_ratio) / len(terms.arms)
        self._ends = list(accumulate(arm.share_ratio for arm in terms.arms))
        scale = Scale()
        self._sides = [(with_arm(request_class, arm), Evidence(arm.name, risk=risk, scale=scale)) for arm in terms.arms]
        self.winner = ""

    def side(self, request: Request) -> tuple[RequestClass, Evidence]:
        """The arm of a request: the class as it is under that arm, and where its outcome counts."""
        if self.winner:
            return next(side for side in self._sides if side[1].name == self.winner)
        place = place_of(request, self.request_class.rollout.by, f"{self.request_class.name}/{self.version}")
        index = next((i for i, end in enumerate(self._ends) if place < end), len(self._ends) - 1)
        return self._sides[index]

    def sides(self) -> tuple[tuple[str, RequestClass], ...]:
        """The class under each arm, by the name of the arm."""
        return tuple((evidence.name, request_class) for request_class, evidence in self._sides)

    def all_evidence(self) -> tuple[Evidence, ...]:
        """What was seen of each arm."""
        return tuple(evidence for _, evidence in self._sides)

    def look(self, *, at: float) -> RolloutChanged | None:
        """At a heartbeat: whether one arm is surely the best, and in no way that would be regretted: an arm whose
        requests surely keep less of their promises than another's does not win by price or quality."""
        if self.winner:
            return None
        best = self._best(self.request_class.rollout.measure)
        if best is None or self._is_unsafe(best):
            return None
        self.winner = best.name
        return self.told("concluded", self._reason(best.name), at=at)

    def _best(self, measure: Measure) -> Evidence | None:
        sign = -1.0 if measure is Measure.COST else 1.0
        bounds = {e.name: sorted(sign * end for end in self.mean(e, measure).interval()) for e in self.all_evidence()}
        for evidence in self.all_evidence():
            low = bounds[evidence.name][0]
            if evidence.answered and all(low > high for n, (_, high) in bounds.items() if n != evidence.name):
                return evidence
        return None

    def _is_unsafe(self, best: Evidence) -> bool:
        high = best.mean(Measure.SLO, told=False).interval()[1]
        return any(high < e.mean(Measure.SLO, told=False).interval()[0] for e in self.all_evidence())

    def mean(self, evidence: Evidence, measure: Measure) -> MeanSequence:
        """A measure of one arm; quality as told, once it was told often enough of every arm."""
        return evidence.mean(measure, told=all_judged(self.all_evidence()))

    def _reason(self, winner: str) -> str:
        measure, shown = self.request_class.rollout.measure, []
        for evidence in self.all_evidence():
            mean = self.mean(evidence, measure)
            low, high = mean.interval()
            shown.append(f"{evidence.name} {mean.mean:.6g} [{low:.6g}, {high:.6g}] of {mean.count}")
        sure = self.request_class.rollout.confidence_ratio
        return f"{winner} is best by {measure} with {sure:g} confidence: {', '.join(shown)}"

    def told(self, state: str, reason: str, *, at: float) -> RolloutChanged:
        """The event of a transition."""
        return RolloutChanged(self.request_class.name, state, 1.0, self.version, reason, at)

    def saved(self) -> SavedExperiment:
        """What a checkpoint keeps."""
        return SavedExperiment(self.request_class.name, self.version, self.winner)

    def resume(self, saved: SavedExperiment) -> None:
        """Take up what an earlier life of the process had decided."""
        if any(evidence.name == saved.winner for evidence in self.all_evidence()):
            self.winner = saved.winner


def _version(request_class: RequestClass) -> str:
    """Of the class and the terms of its experiment: other terms are another experiment."""
    return version_of(replace(request_class, name=f"{request_class.name};{request_class.rollout!r}"))


def with_arm(request_class: RequestClass, arm: Arm) -> RequestClass:
    """The class as it is under one arm."""
    parameters = request_class.parameters
    said = {f: getattr(arm, f) for f in ("temperature", "top_p", "top_k", "max_tokens")}
    parameters = replace(parameters, **{f: v for f, v in said.items() if v is not None})
    return replace(
        request_class,
        parameters=parameters,
        profile=request_class.profile if arm.profile is None else arm.profile,
        style=request_class.style if arm.style is None else Style(arm.style),
        deployments=request_class.deployments if arm.deployments is None else arm.deployments,
        input_budget_tokens=(
            request_class.input_budget_tokens if arm.input_budget_tokens is None else arm.input_budget_tokens
        ),
    )
