"""Which of the candidates, and with what probability?

A picker returns the index of its pick and the probability of every candidate under its own rule, so that what it did
can be weighed later against what it might have done.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Protocol

from router.domain.decision import Candidate
from router.domain.deployment import Tier
from router.domain.view import DeploymentView
from router.routing.need import Need
from router.stats.normal import logit

_PROBABLY = 0.5
_DOUBT = 1.5
"""Standard deviations of what is believed of a variant by which it may seem worse and still be explored. At 1.5 none
of twelve good ones was shut out and a ruined one lost its share, at 1 two were (`tests/sim/test_untold_base.py`)."""


class Picker(Protocol):
    """Chooses among candidates; `views` and `candidates` run in parallel and are not empty."""

    name: str

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """Index and the probability of each; `None` sheds the request."""
        ...


class Best:
    """The highest score; a small share of a class's requests explores what could still keep its promises."""

    name = "best"

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """The class's exploration share is spread evenly over those that would probably be in time and whose answer is
        expected to be as good as the best's, or is surely above the floor, or that of a variant which may still be as
        good as its base. Where there are fallen ones among them it is theirs alone: nothing else is as worth knowing as
        whether they are back."""
        scores = [candidate.score for candidate in candidates]
        best = scores.index(max(scores))
        share = need.request_class.exploration_ratio
        if need.request_class.sheddable and scores[best] <= 0.0:
            return None, []
        probabilities = [0.0] * len(candidates)
        probabilities[best] = 1.0
        if share <= 0.0:
            return best, probabilities
        floor = need.request_class.floor
        least = 0.0 if floor is None else floor.ratio
        good = views[best].p_adequate
        others = [
            i
            for i, view in enumerate(views)
            if view.p_slo >= _PROBABLY
            and (view.p_adequate_low >= least or view.p_adequate >= good or _may_be_as_good(view, views, least))
        ]
        if not others:
            return best, probabilities
        others = [i for i in others if views[i].fallen and i != best] or others
        probabilities[best], each = 1.0 - share, share / len(others)
        for i in others:
            probabilities[i] += each
        index = _drawn(probabilities, rng) if len(others) > 1 or others[0] != best else best
        return index, probabilities


class AlwaysTier:
    """Everything to one tier."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.name = f"always-{tier.value}"

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """The least loaded of the tier."""
        return _sure(_least_loaded(views, [i for i, v in enumerate(views) if v.deployment.tier is self.tier]), views)


class Uniform:
    """Any candidate, with equal probability: half and half on two."""

    name = "random"

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """Uniform."""
        return rng.randrange(len(views)), [1.0 / len(views)] * len(views)


class RoundRobin:
    """One after the other."""

    name = "round-robin"

    def __init__(self) -> None:
        self._next = 0

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """The next in turn."""
        index = self._next % len(views)
        self._next += 1
        return _sure(index, views)


class LeastOutstanding:
    """The fewest in flight; ties go to the first."""

    name = "least-outstanding"

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """Least in flight."""
        return _sure(_least_loaded(views, range(len(views))), views)


class StaticThreshold:
    """Small where its estimated P(adequate) reaches a fixed threshold, else large: content without load."""

    name = "static-threshold"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def pick(
        self, candidates: Sequence[Candidate], views: Sequence[DeploymentView], need: Need, *, rng: Random
    ) -> tuple[int | None, list[float]]:
        """By the threshold, least loaded within the tier."""
        small = [i for i, v in enumerate(views) if v.deployment.tier is Tier.SMALL]
        large = [i for i, v in enumerate(views) if v.deployment.tier is Tier.LARGE]
        wanted = small if small and views[small[0]].p_adequate >= self.threshold else large
        return _sure(_least_loaded(views, wanted), views)


def _may_be_as_good(view: DeploymentView, views: Sequence[DeploymentView], least: float) -> bool:
    """Whether too few answers of a variant were judged to tell it from one as good as its base, and as the floor asks:
    nothing else would ever be learned of it."""
    base = view.deployment.derived_from
    if base is None:
        return False
    wanted = max([other.p_adequate for other in views if other.deployment.model == base], default=least)
    odds = logit(view.p_adequate)
    return odds + _DOUBT * (odds - logit(view.p_adequate_low)) >= logit(max(wanted, least))


def _least_loaded(views: Sequence[DeploymentView], among: Sequence[int]) -> int:
    indexes = among or range(len(views))
    return min(indexes, key=lambda i: views[i].load.sequences + views[i].load.waiting_sequences)


def _drawn(probabilities: Sequence[float], rng: Random) -> int:
    """An index, with its probability: the one pick of `Random.choices`, without what it does for many."""
    sums = list(accumulate(probabilities))
    return bisect(sums, rng.random() * sums[-1], 0, len(sums) - 1)


def _sure(index: int, views: Sequence[DeploymentView]) -> tuple[int | None, list[float]]:
    probabilities = [0.0] * len(views)
    probabilities[index] = 1.0
    return index, probabilities
