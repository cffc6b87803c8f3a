"""How little may go to the large model, if what is lost against it must stay under a bound?

Learn then test (Angelopoulos, Bates, Candes, Jordan and Lei, 2021). A threshold on the score is a hypothesis: "with it,
the mean loss on new rows is over epsilon". Thresholds are tried in one direction, from everything to large, on a grid
that is fixed before any row is seen; each is tested at the full error rate, and the first that is not rejected ends it.
All that were rejected before it are then right at once with the stated confidence (fixed-sequence testing), and the
last of them sends the least to large.

A row's loss is quality(large) - quality(small) where small is called and 0 where large is: in [-1, 1], and where small
beats large it pays for a loss elsewhere. Each test is a bet against the hypothesis (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", 2024): wealth is multiplied by 1 + bet * (epsilon - loss) row
by row, which nobody can expect to grow while the mean loss is epsilon or more; so it reaches 1 / alpha with probability
alpha at most (Ville). That holds for any distribution on [-1, 1] and any number of rows.

That bounds the expected loss. What is lost on the next m rows scatters around it, so where m is given the bet is made
against a smaller epsilon: its own margin a = s * sqrt(2 log(1/alpha) / n) and the scatter b = s * z / sqrt(m) of the
rows ahead (their mean taken as normal, s their standard deviation) add up in quadrature.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

THRESHOLDS: Final = np.linspace(-1.0, 1.0, 801)
"""Grid of scores, which are predicted gains in [-1, 1]."""
_BOLDEST: Final = 0.5
"""Most of its wealth that a bet may lose with one row."""


class Promise(Struct, frozen=True):
    """At most `epsilon` of mean quality is lost against the large model, with this confidence, on new rows: on average,
    or on the next `ahead` of them."""

    epsilon: float
    confidence: float = 0.95
    ahead: int | None = None


class Chosen(Struct, frozen=True):
    """Rows of this score and above go to large. `large_share` and `loss` are of the calibration rows."""

    threshold: float
    large_share: float
    loss: float


class Resplits(Struct, frozen=True):
    """By re-split, on the rows that were not calibrated on: share sent to large, mean loss, and the part recovered of
    the gap between small and large (`nan` where there is none)."""

    large_share: Floats
    loss: Floats
    pgr: Floats


def holds(losses: Floats, promise: Promise) -> bool:
    """Whether rows with these losses, in random order, shape (n,), are enough to promise it."""
    rows, alpha = len(losses), 1.0 - promise.confidence
    if not rows:
        return False
    evidence, epsilon = math.log(1.0 / alpha), promise.epsilon
    if promise.ahead is not None:
        deviation = float(losses.std())
        margin = deviation * math.sqrt(2.0 * evidence / rows)
        scatter = deviation * NormalDist().inv_cdf(promise.confidence) / math.sqrt(promise.ahead)
        epsilon -= math.hypot(margin, scatter) - margin
    return bool(_log_wealth(losses, epsilon, evidence).max() >= evidence)


def _log_wealth(losses: Floats, epsilon: float, evidence: float) -> Floats:
    """Log wealth after each row, shape (n,). The bet that wins most when all rows count alike, with the variance of the
    rows before (the predictable plug-in of Waudby-Smith and Ramdas, section 3)."""
    count = np.arange(1.0, len(losses) + 1.0)
    means = np.cumsum(losses) / count
    squares = np.concatenate(([1.0], 1.0 + np.cumsum((losses - means) ** 2)[:-1]))
    bets = np.sqrt(2.0 * evidence / (len(losses) * squares / count))
    bets = np.minimum(bets, _BOLDEST / (1.0 - epsilon))
    wealth: Floats = np.cumsum(np.log1p(bets * (epsilon - losses)))
    return wealth


def choose(score: Floats, loss: Floats, promise: Promise) -> Chosen:
    """The highest threshold that keeps the promise; `loss` is what each row would lose with small, both (n,), in random
    order. Where nothing can be promised everything goes to large."""
    chosen, tested = Chosen(-1.0, 1.0, 0.0), len(score) + 1
    for threshold in THRESHOLDS.tolist():
        small = score < threshold
        count = int(np.count_nonzero(small))
        lost = np.where(small, loss, 0.0)
        if count != tested and not holds(lost, promise):
            break
        tested = count
        chosen = Chosen(threshold, 1.0 - count / len(score), float(lost.mean()))
    return chosen


def resplit(
    score: Floats, gain: Floats, loss: Floats, promise: Promise, *, calibrate: int, times: int, seed: int = 0
) -> Resplits:
    """Choose on `calibrate` rows drawn at random and look at the others, `times` over. `gain` is quality(large) -
    quality(small) of each row and `loss` what is counted of it, all (n,). The score must not have been fitted on
    them."""
    rng = np.random.default_rng(seed)
    share, lost, recovered = np.empty(times), np.empty(times), np.empty(times)
    for at in range(times):
        order = rng.permutation(len(score))
        known, new = order[:calibrate], order[calibrate:]
        small = score[new] < choose(score[known], loss[known], promise).threshold
        gap = float(gain[new].sum())
        share[at], lost[at] = 1.0 - small.mean(), float(loss[new][small].sum()) / len(new)
        recovered[at] = 1.0 - float(gain[new][small].sum()) / gap if gap > 0.0 else np.nan
    return Resplits(share, lost, recovered)
