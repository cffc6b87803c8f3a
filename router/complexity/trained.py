"""An estimator out of fitted arrays: three members share one scan, their log odds are averaged and calibrated.

* trees: gradient-boosted, at most 8 leaves each, over the dense features. All splits of all trees are compared at once;
  the 7 answers of a tree are the bits of an index into its table of 128 leaf values (the idea of QuickScorer,
  Lucchese et al., SIGIR 2015, taken to small trees).
* linear: logistic regression on the standardised dense features.
* hashed: logistic regression on the presence of word and character n-grams, a dense matrix-vector product.

Calibration reads a head's own log odds and the mean of the tiers' heads, which were fitted on more rows: a model with
few outcomes of its own leans on what is hard for all. Where a head's adequate shares leave that curve by more than
chance, they lift P(adequate) from it.

The dense features are `features.measure` and how common the prompt's words were in the training rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.estimator import Scored, best_match, lineage
from router.complexity.features import NAMES, POSITION, USE_CASES, measure, use_case
from router.complexity.hashing import Ids, presence, scan
from router.complexity.heuristic import chances, difficulty
from router.domain.deployment import Tier
from router.domain.request import Request
from router.stats.normal import logit, sigmoid

SPLITS: Final = 7
LEAF_CODES: Final = 1 << SPLITS
RARITY: Final = ("word_commonness", "unseen_words", "seen_twice_words", "seen_ten_words")
DENSE: Final = len(NAMES) + len(RARITY)
BOUND_POINTS: Final = 10
BLEND: Final = (0.5, 0.25, 0.25)
"""Weights of the log odds of trees, linear and hashed. Fixed by cross-validation: `bench/complexity_cv.py`."""
CLIP: Final = 5.0
ENOUGH: Final = 40
"""Rows of a use case at which half of the doubt about it is gone."""
DOUBT: Final = 1.0
"""What an unseen use case takes off the lower bound, in log odds."""
EVIDENCE: Final = ("log_words", "choices", "count_mathematics", "count_code", "count_reasoning", "chars_digit")

NO_BASES: Final[Mapping[str, str]] = MappingProxyType({})
Array = NDArray[np.float64]
_BLEND: Final = np.array(BLEND)
_UNSEEN: Final = len(NAMES) + RARITY.index("unseen_words")
_EVIDENCE_AT: Final = [POSITION[name] for name in EVIDENCE]


class HeadInfo(Struct, frozen=True):
    """Whose answers a head predicts: a model's, a tier's, or both where one model stands for its tier. `files` index
    the lineage."""

    model: str | None
    tier: Tier | None
    rows: int
    adequate_ratio: float
    files: tuple[int, ...]
    kinds: dict[str, int]
    """How many of the rows are of each use case."""


class Heads(Struct, frozen=True):
    """Parameters of H heads: T trees each, F = DENSE features, B = hashing.BUCKETS buckets."""

    split_feature: NDArray[np.int64]  # (H, T, SPLITS)
    split_threshold: Array  # (H, T, SPLITS)
    leaves: NDArray[np.float32]  # (H, T, LEAF_CODES)
    linear: Array  # (H, F)
    hashed: NDArray[np.float32]  # (H, B)
    intercepts: Array  # (H, 3): trees, linear, hashed
    adequate: Array  # (H, 3): slopes on own and common log odds, and offset, of P(adequate)
    quality: Array  # (H, 3): the same of expected quality
    bound_at: Array  # (H, BOUND_POINTS): P(adequate) before it is lifted, ascending
    lift: Array  # (H, BOUND_POINTS): what is added to P(adequate) there
    bound: Array  # (H, BOUND_POINTS): lower bound of the adequate share there

    def take(self, index: list[int]) -> Heads:
        """Some of the heads, in the order of `index`."""
        return Heads(*(np.ascontiguousarray(getattr(self, name)[index]) for name in self.__struct_fields__))


class Inputs(Struct, frozen=True):
    """What all heads share: centre and scale of the dense features (F,), in how many training rows each word slot
    occurs (SLOTS,), and the share of unseen words that 95 % of the training rows stay under."""

    center: Array
    scale: Array
    commonness: NDArray[np.uint16]
    usual_unseen: float


class Model(Struct, frozen=True):
    """A fitted model: `info` has one entry per head; `digest` names the bytes it came from."""

    info: tuple[HeadInfo, ...]
    inputs: Inputs
    heads: Heads
    digest: str = ""


def rarity(common: Ids) -> tuple[float, float, float, float]:
    """`RARITY` from the number of training rows that each word of a prompt occurs in, shape (words,)."""
    words = len(common)
    if not words:
        return 0.0, 0.0, 0.0, 0.0
    return (
        float(np.add.reduce(np.log1p(common))) / words,
        np.count_nonzero(common <= 0) / words,
        np.count_nonzero(common <= 2) / words,
        np.count_nonzero(common <= 10) / words,
    )


def standardise(dense: Array, inputs: Inputs) -> Array:
    """Dense features (..., F) centred, scaled and clipped for the linear member."""
    z = (dense - inputs.center) / inputs.scale
    np.maximum(z, -CLIP, out=z)
    return np.minimum(z, CLIP, out=z)


class Prediction(Struct, frozen=True):
    """By head, shape (H,): P(adequate), its lower bound, expected quality; and the novelty of the prompt."""

    p: list[float]
    low: list[float]
    quality: list[float]
    novelty: float


class Predictor:
    """The heads of a model, laid out for one prompt at a time."""

    def __init__(self, inputs: Inputs, heads: Heads, info: list[HeadInfo]) -> None:
        count, trees = heads.split_feature.shape[:2]
        self._inputs, self._heads = inputs, heads
        self._features = heads.split_feature.reshape(-1, SPLITS)
        self._thresholds = heads.split_threshold.reshape(-1, SPLITS)
        self._leaves = heads.leaves.ravel()
        self._offsets = np.arange(count * trees) * LEAF_CODES
        self._shape = (count, trees)
        self._mixing = np.concatenate([_mixing(table, info) for table in (heads.adequate, heads.quality)])
        self._starts = np.concatenate((heads.adequate[:, 2], heads.quality[:, 2]))
        self._bound_at, self._lift, self._bound = (t.tolist() for t in (heads.bound_at, heads.lift, heads.bound))
        self._doubt = {kind: [DOUBT * _strangeness(head, kind) for head in info] for kind in USE_CASES}

    def logits(self, dense: Array, flags: NDArray[np.float32]) -> Array:
        """Log odds of the three members, shape (3, H), for dense features (F,) and presence flags (B,)."""
        heads = self._heads
        bits = np.packbits(dense[self._features] <= self._thresholds, axis=1, bitorder="little")
        leaves = self._leaves[bits[:, 0] + self._offsets].reshape(self._shape)
        members = heads.intercepts.T.copy()
        members[0] += np.add.reduce(leaves, axis=1, dtype=np.float64)
        members[1] += heads.linear @ standardise(dense, self._inputs)
        members[2] += heads.hashed @ flags
        return members

    def predict(self, dense: Array, flags: NDArray[np.float32], kind: str) -> Prediction:
        """Calibrated figures of one prompt. Where a head has seen little of the kind, or where the words are new, the
        lower bound gives way; the estimate does not: shrinking it would put kinds in a wrong order."""
        logits = (self._mixing @ (_BLEND @ self.logits(dense, flags)) + self._starts).reshape(2, -1)
        usual = self._inputs.usual_unseen
        novelty = max(0.0, (float(dense[_UNSEEN]) - usual) / max(1.0 - usual, 1e-9))
        unlifted, quality = ([sigmoid(z) for z in row] for row in logits.tolist())
        p, low = [], []
        tables = zip(unlifted, self._bound_at, self._lift, self._bound, self._doubt[kind], strict=True)
        for chance, at, lift, bound, doubt in tables:
            cautious = sigmoid(logit(_interpolate(chance, at, bound)) - doubt)
            p.append(min(max(chance + _interpolate(chance, at, lift), 0.0), 1.0))
            low.append(min(p[-1], cautious) * (1.0 - novelty))
        return Prediction(p, low, quality, novelty)

    def linear_weights(self) -> Array:
        """What one standard deviation of each dense feature adds to each head's log odds of quality through the linear
        member, calibrated, shape (H, F)."""
        weights: Array = self._mixing[len(self._starts) // 2 :] @ (_BLEND[1] * self._heads.linear)
        return weights


def common_weights(info: Sequence[HeadInfo]) -> Array:
    """What each head counts in the common log odds, shape (H,): the mean of the tiers' heads, nothing without them."""
    stands = np.array([head.tier is not None for head in info], np.float64)
    return stands / max(float(stands.sum()), 1.0)


def _mixing(table: Array, info: Sequence[HeadInfo]) -> Array:
    """Calibrated from blended log odds of all heads, without the offsets, shape (H, H)."""
    return np.diag(table[:, 0]) + np.outer(table[:, 1], common_weights(info))


def _strangeness(head: HeadInfo, kind: str) -> float:
    """How new a use case is to a head, in (0,1]."""
    seen = head.kinds.get(kind, 0)
    return ENOUGH / (ENOUGH + seen)


def _interpolate(x: float, at: list[float], values: list[float]) -> float:
    """Piecewise linear through (at, values), flat outside; a tenth of the time of `np.interp` for one point."""
    right = bisect_right(at, x)
    if right == 0:
        return values[0]
    if right == len(at):
        return values[-1]
    low, high = at[right - 1], at[right]
    return values[right - 1] + (values[right] - values[right - 1]) * (x - low) / (high - low)


class TrainedEstimator:
    """Serves a fitted model. Without `serving`, every head is evaluated for every request."""

    def __init__(self, model: Model, names: dict[str, int] | None = None) -> None:
        """`names` says which head answers for which model name; by default each for its own."""
        if names is None:
            names = {head.model: index for index, head in enumerate(model.info) if head.model is not None}
        tiers = {head.tier: index for index, head in enumerate(model.info) if head.tier is not None}
        keep = sorted({*names.values(), *tiers.values()})
        at = {old: new for new, old in enumerate(keep)}
        self.model = model
        self._names = {name: at[index] for name, index in names.items()}
        self._tiers = {tier: at[index] for tier, index in tiers.items()}
        self._predictor = Predictor(model.inputs, model.heads.take(keep), [model.info[index] for index in keep])

    @property
    def digest(self) -> str:
        """Names the bytes it came from."""
        return self.model.digest

    def serving(self, models: Iterable[tuple[str, Tier]], bases: Mapping[str, str] = NO_BASES) -> TrainedEstimator:
        """The same estimator, narrowed to the heads that these models (name, tier) need, and to heads that can be
        compared: those fitted on the same files. Where no such set covers the models, each gets its tier's head.
        `bases` names the model that another was made from: it answers for a model that nobody has measured."""
        info = self.model.info
        known = {head.model: index for index, head in enumerate(info) if head.model is not None}
        tiers = {head.tier: index for index, head in enumerate(info) if head.tier is not None}
        found, used = {}, set()
        for name, tier in models:
            match = next((m for n in lineage(name, bases) if (m := best_match(n, known)) is not None), None)
            index = tiers.get(tier) if match is None else known[match]
            if match is not None:
                found[name] = known[match]
            if index is not None:
                used.add(info[index].files)
        return TrainedEstimator(self.model, found if len(used) == 1 else {})

    def dense(self, request: Request) -> tuple[Array, NDArray[np.float32]]:
        """Dense features (F,) and presence flags (B,) of a request."""
        scanned = scan(request.prompt.last_user)
        row = np.empty(DENSE)
        row[: len(NAMES)] = measure(request.prompt, scanned)
        row[len(NAMES) :] = rarity(self.model.inputs.commonness[scanned.slots].astype(np.int64))
        return row, presence(scanned)

    def weights(self, model: str, tier: Tier) -> Array | None:
        """`Predictor.linear_weights` of the head that answers for a model, shape (DENSE,); `None` where rules do."""
        index = self._names.get(model, self._tiers.get(tier))
        return None if index is None else self._predictor.linear_weights()[index]

    def estimate(self, request: Request) -> Scored:
        """Score one request."""
        return self.judge(request, *self.dense(request))

    def judge(self, request: Request, dense: Array, flags: NDArray[np.float32]) -> Scored:
        """Score one request whose features are given: those of `dense`, or others to see what they matter."""
        kind = use_case(request.prompt, dense[: len(NAMES)])
        said = self._predictor.predict(dense, flags, kind)
        tiers = {tier: said.p[index] for tier, index in self._tiers.items()}
        if len(tiers) < len(Tier):
            tiers = chances(difficulty(dense)) | tiers
        return Scored(
            complexity=1.0 - tiers[Tier.SMALL],
            use_case=kind,
            estimates={name: said.p[index] for name, index in self._names.items()},
            tiers=tiers,
            features=tuple(zip(EVIDENCE, dense[_EVIDENCE_AT].tolist(), strict=True)),
            lows={name: said.low[index] for name, index in self._names.items()},
            tier_lows={tier: said.low[index] for tier, index in self._tiers.items()},
            qualities={name: said.quality[index] for name, index in self._names.items()},
            novelty=said.novelty,
        )
