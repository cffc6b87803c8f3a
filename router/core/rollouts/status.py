"""How every rollout and experiment stands: what is shown to whoever asks."""

from __future__ import annotations

from msgspec import Struct

from router.core.rollouts.evidence import Evidence, all_judged
from router.core.rollouts.experiment import Experiment
from router.core.rollouts.rollouts import Rollouts
from router.core.rollouts.trial import Trial
from router.core.rollouts.verdict import may_go_on
from router.domain.rollout import Measure


class MeasureStatus(Struct, frozen=True):
    """A mean with an interval that holds however often it is looked at; `None` where too little is known."""

    count: int
    mean: float
    low: float | None
    high: float | None


class SideStatus(Struct, frozen=True):
    """One side: how many requests ended on it, what was measured, and the burn rate of each objective over an hour."""

    name: str
    requests: int
    measures: dict[str, MeasureStatus]
    burn_rates: dict[str, float]


class RolloutStatus(Struct, frozen=True):
    """One class: `state` is shadow, waiting (for a word on the decision log), canary, refused (by that word),
    rolled_back, ab or concluded; `waits_for` says what keeps a canary from beginning or on its step, `reason` why it
    was taken back, or who won."""

    request_class: str
    state: str
    version: str
    ratio: float
    waits_for: str | None
    reason: str
    sides: tuple[SideStatus, ...]


def status_of(rollouts: Rollouts, *, now: float) -> tuple[RolloutStatus, ...]:
    """Every rollout and experiment, by class."""
    trials = [_trial(trial, now=now) for trial in rollouts.trials.values()]
    experiments = [_experiment(experiment, now=now) for experiment in rollouts.experiments.values()]
    return tuple(sorted((*trials, *experiments), key=lambda status: status.request_class))


def _trial(trial: Trial, *, now: float) -> RolloutStatus:
    waits = trial.waits or None
    if trial.is_canary:
        on_step_s, on_step = trial.on_step_s(now), trial.requests_on_step
        waits = may_go_on(trial.sides, trial.new.rollout, on_step_s=on_step_s, on_step=on_step)
    both = (trial.evidence, trial.stable)
    sides = () if trial.is_shadow or trial.is_gated else tuple(_side(side, both, now) for side in both)
    return RolloutStatus(trial.name, trial.state, trial.version, trial.ratio, waits, trial.taken_back, sides)


def _experiment(experiment: Experiment, *, now: float) -> RolloutStatus:
    arms = experiment.all_evidence()
    sides = tuple(_side(evidence, arms, now) for evidence in arms)
    state = "concluded" if experiment.winner else "ab"
    reason = f"{experiment.winner} is best" if experiment.winner else ""
    return RolloutStatus(experiment.request_class.name, state, experiment.version, 1.0, None, reason, sides)


def _side(evidence: Evidence, among: tuple[Evidence, ...], now: float) -> SideStatus:
    measures = {}
    for measure in Measure:
        mean = evidence.mean(measure, told=all_judged(among))
        low, high = mean.interval()
        known = mean.count > 0 and high - low < float("inf")
        measures[measure.value] = MeasureStatus(mean.count, mean.mean, low if known else None, high if known else None)
    burns = {indicator.value: meter.rate(3600.0, now=now) for indicator, meter in evidence.burns.items()}
    return SideStatus(evidence.name, evidence.requests, measures, burns)
