"""How good is an estimator as a two-model router, and are its probabilities to be believed?

Outcomes say what each model would have scored on a prompt. The router's score is the predicted quality of large minus
small; prompts go to large in descending order of it. PGR is the share of the gap between the two means that is
recovered; APGR its area over the share sent to large (RouteLLM, arXiv 2406.18665, section 2.2), by the trapezoid rule
over all n + 1 cuts. Rows with equal scores each carry their group's mean gain, so ties are neither luck nor skill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.estimator import Estimator, Scored
from router.complexity.outcomes import Example, adequacy
from router.domain.deployment import Tier
from router.domain.errors import RouterError
from router.domain.request import Prompt, Request, RequestId

Array = NDArray[np.float64]
LEAST_ROWS: Final = 50
ECE_BINS: Final = 10
_CHARS_PER_TOKEN: Final = 4


def request_of(prompt: str) -> Request:
    """A prompt as a request of its own."""
    said = Prompt(prompt, chars=len(prompt))
    return Request(RequestId(""), 0.0, 0.0, said, len(prompt) // _CHARS_PER_TOKEN)


class Scores(Struct, frozen=True):
    """By metric; `None` where there are too few rows or no gap to recover. CPT in percent, times in microseconds."""

    n: int
    small_mean: float
    large_mean: float
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    cpt95: float | None
    auc: float | None
    ece: dict[str, float | None]
    predict_us_p50: float
    predict_us_p99: float


class Evaluation(Struct, frozen=True):
    """Pooled rows, and each source on its own."""

    overall: Scores
    by_source: dict[str, Scores]


class _Columns(Struct, frozen=True):
    """One entry per example: true quality, adequacy and predicted P(adequate) of small and large (n, 2); the score
    (n,); and the time of the prediction in microseconds (n,)."""

    quality: Array
    adequate: Array
    p: Array
    score: Array
    us: Array

    def take(self, rows: NDArray[np.bool_]) -> _Columns:
        return _Columns(self.quality[rows], self.adequate[rows], self.p[rows], self.score[rows], self.us[rows])


def evaluate(
    examples: Sequence[Example],
    estimator: Estimator,
    *,
    small: str,
    large: str,
    clock_ns: Callable[[], int],
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Score every example that has both models; `RouterError` where none has. `clock_ns` times each prediction."""
    pairs = ((small, Tier.SMALL), (large, Tier.LARGE))
    chosen = [(e, v) for e, v in zip(examples, adequacy(examples, large), strict=True) if {small, large} <= v.keys()]
    if not chosen:
        raise RouterError(f"no prompt has outcomes of both {small} and {large}", code="invalid_outcomes")
    said: list[Scored] = []
    times = []
    for done, (example, _) in enumerate(chosen):
        request = request_of(example.prompt)
        began = clock_ns()
        said.append(estimator.estimate(request))
        times.append((clock_ns() - began) / 1e3)
        progress(done + 1)
    columns = _Columns(
        quality=np.array([[e.outcomes[model].quality for model, _ in pairs] for e, _ in chosen]),
        adequate=np.array([[float(v[model]) for model, _ in pairs] for _, v in chosen]),
        p=np.array([[one.of(model, tier) for model, tier in pairs] for one in said]),
        score=np.array([one.quality(large, Tier.LARGE) - one.quality(small, Tier.SMALL) for one in said]),
        us=np.array(times),
    )
    sources = np.array([e.source for e, _ in chosen])
    by_source = {str(source): _score(columns.take(sources == source), (small, large)) for source in np.unique(sources)}
    return Evaluation(_score(columns, (small, large)), by_source)


def _score(columns: _Columns, models: tuple[str, str]) -> Scores:
    n = len(columns.score)
    means = columns.quality.mean(axis=0)
    gain = columns.quality[:, 1] - columns.quality[:, 0]
    told = n >= LEAST_ROWS and means[1] > means[0]
    p50, p99 = np.quantile(columns.us, (0.5, 0.99)).tolist()
    cuts = recovered(columns.score, gain) if told else None
    return Scores(
        n=n,
        small_mean=float(means[0]),
        large_mean=float(means[1]),
        apgr=None if cuts is None else area(cuts),
        cpt50=None if cuts is None else call_share(cuts, 0.50),
        cpt80=None if cuts is None else call_share(cuts, 0.80),
        cpt95=None if cuts is None else call_share(cuts, 0.95),
        auc=auc(columns.score, gain > 0.0) if told else None,
        ece={m: ece(columns.p[:, i], columns.adequate[:, i]) if told else None for i, m in enumerate(models)},
        predict_us_p50=p50,
        predict_us_p99=p99,
    )


def recovered(score: Array, gain: Array) -> Array:
    """PGR at each of the n + 1 cuts of the descending score, shape (n + 1,); the gains must not sum to 0."""
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=gain) / size)[np.sort(group)]
    cuts: Array = np.concatenate(([0.0], np.cumsum(shared))) / gain.sum()
    return cuts


def area(cuts: Array) -> float:
    """APGR: the trapezoid rule over equally spaced cuts of [0, 1]."""
    return float((cuts[1:] + cuts[:-1]).mean() / 2.0)


def call_share(cuts: Array, ratio: float) -> float:
    """CPT: least share sent to large, in percent, at which PGR first reaches `ratio`."""
    reached = np.flatnonzero(cuts >= ratio - 1e-12)
    return 100.0 * float(reached[0]) / (len(cuts) - 1)


def auc(score: Array, positive: NDArray[np.bool_]) -> float | None:
    """P(a positive scores above a negative), ties counted half; `None` where there is only one kind.

    For routing, positive means that small is worse than large, so that more is better."""
    good, bad = int(positive.sum()), int((~positive).sum())
    if not good or not bad:
        return None
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2.0
    return float((rank[group][positive].sum() - good * (good + 1) / 2.0) / (good * bad))


def ece(p: Array, truth: Array) -> float:
    """Expected calibration error: mean over ten equal-mass bins of |mean predicted - share true|, by bin size."""
    parts = np.array_split(np.argsort(p, kind="stable"), min(ECE_BINS, len(p)))
    return sum(abs(float(p[part].mean() - truth[part].mean())) * len(part) for part in parts) / len(p)
