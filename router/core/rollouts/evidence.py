"""What was seen of one side of a rollout: promises kept, quality, cost."""

from __future__ import annotations

from router.domain.events import ExperimentObserved
from router.domain.rollout import Measure
from router.domain.slo import Indicator, Objective, Objectives
from router.slo.burn import BurnMeter
from router.slo.judge import judge
from router.stats.confidence import BoundedMean, MeanSequence, Scale, ScaledMean

Met = tuple[tuple[str, bool], ...]
"""One (indicator, met) for each objective, as `slo.judge` gives them."""
SHORTEST_S, LONGEST_S = 300.0, 6 * 3600.0
_ENOUGH_FEEDBACK = 30
"""Answers whose quality was told, from which on they say more than the estimates."""


class Evidence:
    """One side. `risk` is the probability with which any one interval may be wrong at any time; `scale` is shared by
    the sides whose costs are compared."""

    def __init__(self, name: str, *, risk: float, scale: Scale) -> None:
        self.name = name
        self.requests = self.answered = 0
        self.burns: dict[Indicator, BurnMeter] = {}
        self.objectives: dict[Indicator, Objective] = {}
        self._measures: dict[Measure, MeanSequence] = {
            Measure.USEFUL: BoundedMean(risk),
            Measure.SLO: BoundedMean(risk),
            Measure.QUALITY: BoundedMean(risk),
            Measure.COST: ScaledMean(risk, scale),
        }
        self._told_quality = BoundedMean(risk)

    def on_answered(self, objectives: Objectives, met: Met, p_adequate: float, cost_usd: float, *, now: float) -> None:
        """A request was answered, under the objectives of its class."""
        self.answered += 1
        slo_met = all(good for _, good in met)
        self._judge(objectives, met, now=now)
        self._measures[Measure.SLO].add(float(slo_met))
        self._measures[Measure.USEFUL].add(p_adequate * slo_met)
        self._measures[Measure.QUALITY].add(p_adequate)
        self._measures[Measure.COST].add(cost_usd)

    def on_failed(self, objectives: Objectives, *, now: float) -> None:
        """A request was refused, failed, or was left by a sender who had waited past an objective: no promise counts as
        kept, so that no side passes by refusing. What was not answered has no quality and no cost to compare."""
        met = judge(objectives, ttft_s=None, tpot_s=None, e2e_s=None, answered=False)
        self._judge(objectives, met, now=now)
        self._measures[Measure.SLO].add(0.0)
        self._measures[Measure.USEFUL].add(0.0)

    def _judge(self, objectives: Objectives, met: Met, *, now: float) -> None:
        self.requests += 1
        for objective, (_, good) in zip(objectives.each(), met, strict=True):
            meter = self.burns.get(objective.indicator)
            if meter is None:
                meter = BurnMeter(objective.target, shortest_s=SHORTEST_S, longest_s=LONGEST_S)
                self.burns[objective.indicator] = meter
                self.objectives[objective.indicator] = objective
            meter.record(good, now=now)

    def on_quality(self, adequate: float) -> None:
        """The quality of an answer was told."""
        self._told_quality.add(adequate)

    @property
    def is_judged(self) -> bool:
        """Whether the quality of enough answers was told."""
        return self._told_quality.count >= _ENOUGH_FEEDBACK

    def mean(self, measure: Measure, *, told: bool) -> MeanSequence:
        """The running mean of a measure; quality as it was told, or as it was estimated."""
        return self._told_quality if told and measure is Measure.QUALITY else self._measures[measure]

    def observed(self, request_class: str, *, told: bool) -> list[ExperimentObserved]:
        """What is told of this side at a heartbeat."""
        shown = [(measure.value, self.mean(measure, told=told)) for measure in Measure]
        return [
            ExperimentObserved(request_class, self.name, name, mean.count, mean.mean, *mean.interval())
            for name, mean in shown
            if mean.count
        ]


def all_judged(sides: tuple[Evidence, ...]) -> bool:
    """Whether told quality can be compared: estimates on one side say nothing against judgements on another."""
    return all(side.is_judged for side in sides)
