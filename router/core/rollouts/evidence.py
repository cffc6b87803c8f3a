"""What was seen of one side of a rollout: promises kept, quality, cost."""

from __future__ import annotations

from router.domain.events import ExperimentObserved
from router.domain.rollout import Measure
from router.domain.slo import Indicator, RequestClass
from router.slo.burn import BurnMeter
from router.slo.judge import judge
from router.stats.confidence import AsymptoticMean, BoundedMean, MeanSequence

SHORTEST_S, LONGEST_S = 300.0, 6 * 3600.0
_ENOUGH_FEEDBACK = 30
"""Answers whose quality was told, from which on they say more than the estimates."""


class Evidence:
    """One side. `risk` is the probability with which any one interval may be wrong at any time."""

    def __init__(self, name: str, request_class: RequestClass, *, risk: float) -> None:
        self.name = name
        self.requests = 0
        self._objectives = request_class.objectives
        self.burns: dict[Indicator, BurnMeter] = {
            o.indicator: BurnMeter(o.target, shortest_s=SHORTEST_S, longest_s=LONGEST_S)
            for o in request_class.objectives.each()
        }
        self.windows_s = {o.indicator: o.window_s for o in request_class.objectives.each()}
        self._measures: dict[Measure, MeanSequence] = {
            Measure.USEFUL: BoundedMean(risk),
            Measure.SLO: BoundedMean(risk),
            Measure.QUALITY: BoundedMean(risk),
            Measure.COST: AsymptoticMean(risk),
        }
        self._told_quality = BoundedMean(risk)

    def on_ended(
        self, met: tuple[tuple[str, bool], ...], slo_met: bool, p_adequate: float | None, cost_usd: float, *, now: float
    ) -> None:
        """A request was answered, or failed. `p_adequate` is `None` where there was no answer."""
        self.requests += 1
        for indicator, good in met:
            self.burns[Indicator(indicator)].record(good, now=now)
        self._measures[Measure.SLO].add(float(slo_met))
        self._measures[Measure.COST].add(cost_usd)
        self._measures[Measure.USEFUL].add((p_adequate or 0.0) * slo_met)
        if p_adequate is not None:
            self._measures[Measure.QUALITY].add(p_adequate)

    def on_refused(self, *, now: float) -> None:
        """A request was refused before any call: no promise was kept."""
        met = judge(self._objectives, ttft_s=None, tpot_s=None, e2e_s=0.0, answered=False)
        self.on_ended(met, False, None, 0.0, now=now)

    def on_quality(self, adequate: float) -> None:
        """The quality of an answer was told."""
        self._told_quality.add(adequate)

    @property
    def quality(self) -> MeanSequence:
        """The share adequate: as it was told, once enough was; until then as it was estimated."""
        told = self._told_quality
        return told if told.count >= _ENOUGH_FEEDBACK else self._measures[Measure.QUALITY]

    def mean(self, measure: Measure) -> MeanSequence:
        """The running mean of a measure."""
        return self.quality if measure is Measure.QUALITY else self._measures[measure]

    def observed(self, request_class: str) -> list[ExperimentObserved]:
        """What is told of this side at a heartbeat."""
        events = []
        for measure in Measure:
            shown = self.mean(measure)
            if shown.count:
                name = measure.value
                events.append(
                    ExperimentObserved(request_class, self.name, name, shown.count, shown.mean, *shown.interval())
                )
        return events
