"""What is a bounded number of feedbacks worth, against none, and against seeing both outcomes of the same prompts?

A fixed share of the first prompts goes to the large model, whatever they are, so that every propensity is known. Then
learning is frozen, and the rest of the rows are scored as a two-model router.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import mean

from msgspec import Struct, structs

from router.complexity.estimator import Estimator, Scored
from router.complexity.evaluate import Evaluation, Scores, evaluate, request_of
from router.complexity.outcomes import Example
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.domain.request import Request
from router.learning.belief import Belief
from router.stats.normal import logit, sigmoid


class Pair(Struct, frozen=True):
    """The two models, the share of calls to large while learning, and how many feedbacks there are."""

    small: str
    large: str
    large_share: float
    feedbacks: int

    @property
    def tiers(self) -> tuple[tuple[str, Tier], tuple[str, Tier]]:
        """Small first."""
        return (self.small, Tier.SMALL), (self.large, Tier.LARGE)


class Compared(Struct, frozen=True):
    """Every figure is the mean over the seeds. `apgr_by_seed` is of before, after and full feedback."""

    before: Evaluation
    after: Evaluation
    full_feedback: Evaluation
    apgr_by_seed: list[tuple[float | None, float | None, float | None]]


class _Known:
    """An estimator whose answers are already there, by prompt, with what was learned on top."""

    def __init__(self, said: Mapping[str, Scored], pair: Pair, beliefs: Mapping[str, Belief]) -> None:
        self._said, self._pair, self._beliefs = said, pair, beliefs

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        scored = self._said[request.prompt.last_user]
        if not self._beliefs:
            return scored
        better: dict[str, float] = {}
        qualities: dict[str, float] = {}
        for model, tier in self._pair.tiers:
            belief = self._beliefs[model]
            z, fine = logit(scored.of(model, tier)), logit(scored.quality(model, tier))
            shift, _ = belief.shift(fine, scored.ease(), scored.use_case)
            better[model], qualities[model] = sigmoid(z + shift), sigmoid(fine + shift)
        return structs.replace(scored, estimates=better, qualities=qualities)


def compare(
    examples: Sequence[Example],
    estimator: Estimator,
    pair: Pair,
    *,
    seeds: int,
    clock_ns: Callable[[], int],
    progress: Callable[[int], None] = lambda _: None,
) -> Compared:
    """Learn and score, in `seeds` orders of the rows; `estimator` serves both models."""
    rows = [e for e in examples if {pair.small, pair.large} <= e.outcomes.keys()]
    if len(rows) <= pair.feedbacks:
        message = f"{len(rows)} prompts have outcomes of both models: fewer feedbacks than {pair.feedbacks} leave rest"
        raise RouterError(message, code="invalid_outcomes")
    said = {}
    for row in rows:
        request = request_of(row.prompt)
        said[request.prompt.last_user] = estimator.estimate(request)
    found: list[tuple[Evaluation, ...]] = []
    for seed in range(seeds):
        rng = Random(seed)
        order = list(rows)
        rng.shuffle(order)
        seen, rest = order[: pair.feedbacks], order[pair.feedbacks :]
        taught = [{}, _taught(seen, said, pair, rng=rng), _taught(seen, said, pair, rng=None)]
        found.append(
            tuple(
                evaluate(rest, _Known(said, pair, one), small=pair.small, large=pair.large, clock_ns=clock_ns)
                for one in taught
            )
        )
        progress(seed + 1)
    before, after, full = (_mean([one[at] for one in found]) for at in range(3))
    figures = [(one[0].overall.apgr, one[1].overall.apgr, one[2].overall.apgr) for one in found]
    return Compared(before, after, full, figures)


def _taught(
    rows: Sequence[Example], said: Mapping[str, Scored], pair: Pair, *, rng: Random | None
) -> dict[str, Belief]:
    """What the outcomes of one model each teach, the model drawn by `rng`; without it, the outcomes of both."""
    beliefs = {pair.small: Belief(), pair.large: Belief()}
    for row in rows:
        scored = said[request_of(row.prompt).prompt.last_user]
        chosen = None if rng is None else pair.tiers[rng.random() < pair.large_share]
        for model, tier in pair.tiers if chosen is None else (chosen,):
            z, quality = logit(scored.quality(model, tier)), row.outcomes[model].quality
            beliefs[model].learn(z, scored.ease(), scored.use_case, quality)
    return beliefs


def _mean(found: Sequence[Evaluation]) -> Evaluation:
    sources = sorted({source for one in found for source in one.by_source})
    by_source = {s: _mean_scores([one.by_source[s] for one in found if s in one.by_source]) for s in sources}
    return Evaluation(_mean_scores([one.overall for one in found]), by_source)


def _mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean of every figure over those that have it; `None` where none has."""

    def of(name: str) -> float | None:
        values = [value for one in scores if (value := getattr(one, name)) is not None]
        return mean(values) if values else None

    ece = {}
    for model in scores[0].ece:
        values = [value for one in scores if (value := one.ece[model]) is not None]
        ece[model] = mean(values) if values else None
    names = ("apgr", "cpt50", "cpt80", "cpt95", "auc")
    return Scores(
        n=round(mean(one.n for one in scores)),
        small_mean=mean(one.small_mean for one in scores),
        large_mean=mean(one.large_mean for one in scores),
        ece=ece,
        predict_us_p50=mean(one.predict_us_p50 for one in scores),
        predict_us_p99=mean(one.predict_us_p99 for one in scores),
        **{name: of(name) for name in names},
    )
