"""What would another policy have earned, told from decisions that were logged with their propensities?

Three estimators of the mean reward under a target policy, of which the first two know only what was seen:

* IPS weighs what each pick earned by target probability over propensity: right on average, of much variance.
* SNIPS divides by the sum of the weights instead of their expectation (Swaminathan and Joachims, "The self-normalized
  estimator for counterfactual learning", 2015): steadier, with a bias that fades with the number of decisions.
* DR predicts every candidate's reward and corrects the prediction by the weighed residual of the pick (Dudik, Langford
  and Li, "Doubly robust policy evaluation and learning", 2011; Dudik, Erhan, Langford and Li, 2014): right where the
  propensities or the predictions are, and of little variance where the predictions are good.

A reward is not always told. What is told is weighed by one over the share that is told in its group, which is right
where the telling does not depend on the reward within a group (Robins, Rotnitzky and Zhao, 1994).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.stats.confidence import BoundedMean

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_MOVED = 0.5
CAP = 20.0
"""The weight of a pick that a tenth of exploration over two deployments made."""


class Choice(Struct, frozen=True):
    """One decision under both policies: probability of each candidate, and the index of the pick. `target` sums to 0
    where the target policy serves nobody; a candidate with `logged` 0 has no support."""

    target: tuple[float, ...]
    logged: tuple[float, ...]
    pick: int


class Reward(Struct, frozen=True):
    """What a decision earned, and what every candidate was predicted to earn. `observed` is `None` where it is not
    told; `share` is the share that is told in its group, 0 where nothing is."""

    predicted: tuple[float, ...]
    observed: float | None
    share: float = 1.0


class Ratio(Struct, frozen=True):
    """An estimate as a ratio of two sums over decisions, times `scale`. `surprise` is what a single decision that came
    out as none before could add to the sum; `below` and `above` bound what no decision can tell."""

    parts: Floats
    wholes: Floats
    scale: float = 1.0
    surprise: float = 0.0
    below: float = 0.0
    above: float = 0.0

    @property
    def value(self) -> float | None:
        """`None` of nothing."""
        whole = float(self.wholes.sum())
        return float(self.parts.sum()) / whole * self.scale if whole else None


class Evidence:
    """Decisions and their rewards as arrays, one entry a decision."""

    def __init__(self, choices: Sequence[Choice], rewards: Sequence[Reward]) -> None:
        width = max((len(c.target) for c in choices), default=0)
        target, logged, predicted = (np.zeros((len(choices), width)) for _ in range(3))
        for row, (choice, reward) in enumerate(zip(choices, rewards, strict=True)):
            size = len(choice.target)
            target[row, :size], logged[row, :size] = choice.target, choice.logged
            predicted[row, :size] = reward.predicted
        picks = np.array([c.pick for c in choices], dtype=np.intp)[:, None]
        backed = logged > 0.0
        weights = np.divide(target, logged, out=np.zeros_like(target), where=backed)
        bare = np.where(backed, 0.0, target)
        self.observed = np.array([0.0 if r.observed is None else r.observed for r in rewards])
        self.inverse = np.array([0.0 if r.observed is None or r.share <= 0.0 else 1.0 / r.share for r in rewards])
        self.weight: Floats = _at(weights, picks) * self.inverse
        self.predicted = _at(predicted, picks)
        self.expected: Floats = (target * predicted).sum(axis=1)
        self.served: Floats = target.sum(axis=1)
        self.bare: Floats = bare.sum(axis=1)
        self.bare_expected: Floats = (bare * predicted).sum(axis=1)
        self.is_moved: Flags = np.maximum(target - logged, 0.0).sum(axis=1) > _MOVED
        self.heaviest = float(weights.max(initial=0.0)) * float(self.inverse.max(initial=1.0))

    @property
    def residual(self) -> Floats:
        """Of the pick; 0 where nothing is told."""
        return np.where(self.inverse > 0.0, self.observed - self.predicted, 0.0)


class Support(Struct, frozen=True):
    """How much the log can say. `effective` is Kish's sample size of the weights, `told` how many rewards are known,
    `unsupported` the share of the target's probability on what the log could not have picked, `moved` the share of
    decisions that go elsewhere and `moved_effective` the effective sample size among them alone."""

    decisions: int
    told: int
    effective: float
    heaviest_weight: float
    unsupported: float
    moved: float
    moved_effective: float


def support(evidence: Evidence) -> Support:
    """How much stands behind an estimate of the target policy's reward."""
    served = float(evidence.served.sum())
    return Support(
        decisions=len(evidence.weight),
        told=int(np.count_nonzero(evidence.inverse)),
        effective=effective(evidence.weight),
        heaviest_weight=float(evidence.weight.max(initial=0.0)),
        unsupported=float(evidence.bare.sum()) / served if served else 0.0,
        moved=float(evidence.is_moved.mean()) if len(evidence.is_moved) else 0.0,
        moved_effective=effective(evidence.weight[evidence.is_moved]),
    )


def effective(weights: Floats) -> float:
    """Equally weighted samples that would say as much (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def ips(evidence: Evidence, wholes: Floats, *, most: float | None, widest: float) -> Ratio:
    """Inverse propensity scoring. `wholes` says which decisions count, `most` bounds a reward, `widest` is how far one
    was seen to be off. What has no support is taken to earn 0."""
    slack = _slack(evidence, 0.0, float(wholes.sum()), most)
    return Ratio(evidence.weight * evidence.observed, wholes, 1.0, evidence.heaviest * widest, *slack)


def snips(evidence: Evidence, wholes: Floats, *, most: float | None, widest: float) -> Ratio:
    """Self-normalised. What has no support is taken to earn as the rest; what is not served earns 0."""
    whole, weight = float(wholes.sum()), float(evidence.weight.sum())
    scale = float(evidence.served.sum()) / whole if whole else 0.0
    parts = evidence.weight * evidence.observed
    alike = float(evidence.bare.sum()) * float(parts.sum()) / weight if weight else 0.0
    return Ratio(parts, evidence.weight, scale, evidence.heaviest * widest, *_slack(evidence, alike, whole, most))


def doubly_robust(evidence: Evidence, wholes: Floats, *, most: float | None, widest: float) -> Ratio:
    """Doubly robust. What has no support rests on the prediction alone."""
    parts = evidence.expected + evidence.weight * evidence.residual
    slack = _slack(evidence, float(evidence.bare_expected.sum()), float(wholes.sum()), most)
    return Ratio(parts, wholes, 1.0, evidence.heaviest * widest, *slack)


def as_logged(evidence: Evidence, *, most: float | None, widest: float) -> Ratio:
    """The mean of what the logged policy itself earned, of `evidence` in which the target is the pick for certain; the
    untold are predicted, and corrected by the told."""
    parts = evidence.predicted + evidence.inverse * evidence.residual
    slack = _slack(evidence, float(evidence.bare_expected.sum()), float(len(parts)), most)
    return Ratio(parts, np.ones(len(parts)), 1.0, float(evidence.inverse.max(initial=1.0)) * widest, *slack)


def lower_bound(
    choices: Iterable[Choice], rewards: Iterable[Reward], *, alpha: float = 0.05, cap: float = CAP, told: float = 1.0
) -> float:
    """What the mean reward of a target policy is at least, with probability 1 - `alpha`, however often it is asked.

    Rewards are in [0, 1]. The probabilities of the target are cut to `cap` times their propensity, and what is cut
    earns nothing, as does what has no support: so the doubly robust mean of the rest bounds that of the whole from
    below. Its terms lie in a known range, for which the confidence sequence assumes nothing else. `told` is the least
    share told of any group; shares below it count as if they were it. 0 of nothing.
    """
    span = cap / told
    mean = BoundedMean(2.0 * alpha)
    for choice, reward in zip(choices, rewards, strict=True):
        cut = [min(t, cap * p) for t, p in zip(choice.target, choice.logged, strict=True)]
        value = sum(t * q for t, q in zip(cut, reward.predicted, strict=True))
        propensity = choice.logged[choice.pick]
        if reward.observed is not None and reward.share > 0.0 and propensity > 0.0:
            weight = cut[choice.pick] / propensity / max(reward.share, told)
            value += weight * (reward.observed - reward.predicted[choice.pick])
        mean.add((value + span) / (1.0 + 2.0 * span))
    low, _ = mean.interval()
    return min(max(low * (1.0 + 2.0 * span) - span, 0.0), 1.0)


def _slack(evidence: Evidence, taken: float, whole: float, most: float | None) -> tuple[float, float]:
    """How far an estimate that takes what nothing supports to earn `taken` can be off: it may be anything from 0 to
    `most` each, or to twice the prediction where a reward has no bound."""
    top = 2.0 * float(evidence.bare_expected.sum()) if most is None else most * float(evidence.bare.sum())
    return (taken / whole, max(top - taken, 0.0) / whole) if whole else (0.0, 0.0)


def _at(table: Floats, picks: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(table, picks, axis=1)[:, 0] if len(picks) else np.zeros(0)
