"""Fits one head per model, and one per tier for models nobody has measured, on outcomes.

Every head is fitted on the same features and the same folds, so that differences between heads mean something: what
routing needs is the gain, and a gain of two heads from different worlds is noise. Each head has three members (see
`trained`); their log odds are averaged and then calibrated on out-of-fold predictions, a fold being 1/5 of the distinct
prompts: Platt scaling with one more input, the mean of the tiers' heads, and what its curve misses (`lifts`).
scikit-learn is imported here only, when a fit begins.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.complexity.artefact import Artefact, Calibration, Lineage
from router.complexity.evaluate import Array, auc, ece, request_of
from router.complexity.features import NAMES, measure, use_case
from router.complexity.hashing import BUCKETS, SLOTS, Ids, presence, scan
from router.complexity.outcomes import Example, Source, Subject, subjects_of
from router.complexity.trained import (
    BLEND,
    BOUND_POINTS,
    DENSE,
    LEAF_CODES,
    SPLITS,
    HeadInfo,
    Heads,
    Inputs,
    Model,
    common_weights,
    rarity,
    standardise,
)
from router.domain.errors import RouterError

FOLDS: Final = 5
TREES: Final = 120
LINEAR_C: Final = 0.001
HASHED_C: Final = 0.2
CALIBRATION_C: Final = 10.0
_BOUND_Z: Final = 1.645
"""One-sided 95 %."""
_SOFT: Final = 1e-3

# scikit-learn and scipy ship no types: their objects are `Any`, and none of them leaves this file.
Table = Any
Progress = Callable[[str, int, int], None]


class Data(Struct, frozen=True):
    """All N prompts: structural features (N, len(NAMES)), presence flags (sparse, N x BUCKETS), the slots of each
    prompt's words, the fold of each prompt (N,), and its use case."""

    measured: Array
    flags: Table
    slots: list[Ids]
    fold: Ids
    kinds: list[str]


class Members(Struct, frozen=True):
    """The three fitted scikit-learn models of one head."""

    trees: Any
    linear: Any
    hashed: Any

    def logits(self, dense: Array, flags: Table, inputs: Inputs) -> Array:
        """Log odds of each member, shape (3, n)."""
        z = standardise(dense, inputs)
        return np.stack(
            [
                self.trees.decision_function(dense),
                self.linear.decision_function(z),
                self.hashed.decision_function(flags),
            ]
        )


def train(
    sources: Sequence[Source],
    *,
    small: Sequence[str] = (),
    large: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Artefact:
    """Fit everything. `small` and `large` name the models that stand for their tier, and a single `large` is the one to
    match where truth is finer than right or wrong; without names each file's models are split at the middle of their
    mean qualities. `progress(what, done, total)` is called along the way."""
    examples = [example for source in sources for example in source.examples]
    data = prepare(examples, seed=seed, progress=progress)
    subjects = subjects_of(sources, small, large)
    for subject in subjects:
        if len(np.unique(data.fold[subject.rows])) < FOLDS:
            raise RouterError(f"{subject.name}: too few distinct prompts", code="invalid_outcomes")
    total = (FOLDS + 1) * len(subjects)
    out = np.empty((len(examples), len(subjects)))
    for fold in range(FOLDS):
        kept = data.fold != fold
        inputs = fit_inputs(data, kept)
        dense = dense_of(data, inputs, kept)
        for index, subject in enumerate(subjects):
            progress("fitting", fold * len(subjects) + index, total)
            inside = kept[subject.rows]
            members = fit_members(dense, data.flags, inputs, subject, inside, seed)
            out[~kept, index] = np.array(BLEND) @ members.logits(dense[~kept], data.flags[~kept], inputs)
    everything = np.ones(len(examples), np.bool_)
    inputs = fit_inputs(data, everything)
    dense = dense_of(data, inputs, everything)
    info = tuple(_info(subject, data.kinds) for subject in subjects)
    common = out @ common_weights(info)
    heads, table = [], []
    for index, subject in enumerate(subjects):
        progress("fitting", FOLDS * len(subjects) + index, total)
        members = fit_members(dense, data.flags, inputs, subject, np.ones(len(subject.rows), np.bool_), seed)
        z = np.stack((out[:, index], common), axis=1)[subject.rows]
        head, calibration = _calibrated(export(members), subject, z, data.fold[subject.rows])
        heads.append(head)
        table.append(calibration)
    progress("fitting", total, total)
    names = Heads.__struct_fields__
    stacked = Heads(*(np.stack([head[name] for head in heads]) for name in names))
    lineage = Lineage(tuple(s.file for s in sources), seed, FOLDS, _versions(), tuple(table))
    return Artefact(Model(info, inputs, stacked), lineage)


def _info(subject: Subject, kinds: list[str]) -> HeadInfo:
    counted = Counter(kinds[row] for row in subject.rows)
    share = float(subject.adequate.mean())
    return HeadInfo(subject.model, subject.tier, len(subject.rows), share, subject.files, dict(sorted(counted.items())))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("scikit-learn", "numpy")}


def prepare(examples: Sequence[Example], *, seed: int, progress: Progress = lambda *_: None) -> Data:
    """Features of every prompt. Equal prompts fall in the same fold."""
    from scipy.sparse import csr_matrix

    measured = np.empty((len(examples), len(NAMES)))
    slots, kinds, columns, values, ends = [], [], [], [], [0]
    fold = np.empty(len(examples), np.int64)
    for row, example in enumerate(examples):
        scanned = scan(example.prompt)
        prompt = request_of(example.prompt).prompt
        measured[row] = measure(prompt, scanned)
        kinds.append(use_case(prompt, measured[row]))
        flags = presence(scanned)
        set_ = np.flatnonzero(flags)
        columns.append(set_)
        values.append(flags[set_])
        ends.append(ends[-1] + len(set_))
        slots.append(scanned.slots)
        fold[row] = zlib.crc32(f"{seed}:{example.prompt.strip()}".encode("utf-8", "replace")) % FOLDS
        if row % 100 == 0:
            progress("reading", row, len(examples))
    progress("reading", len(examples), len(examples))
    table = csr_matrix((np.concatenate(values), np.concatenate(columns), ends), (len(examples), BUCKETS))
    return Data(measured, table, slots, fold, kinds)


def fit_inputs(data: Data, kept: NDArray[np.bool_]) -> Inputs:
    """Scales and word commonness out of the rows that are kept."""
    common = np.zeros(SLOTS, np.int64)
    for row in np.flatnonzero(kept):
        common[np.unique(data.slots[row])] += 1
    table = np.minimum(common, np.iinfo(np.uint16).max).astype(np.uint16)
    blank = Inputs(np.zeros(DENSE), np.ones(DENSE), table, 0.0)
    dense = dense_of(data, blank, kept)[kept]
    scale = dense.std(axis=0)
    usual = float(np.quantile(dense[:, len(NAMES) + 1], 0.95))
    return Inputs(dense.mean(axis=0), np.where(scale > 1e-9, scale, 1.0), table, usual)


def dense_of(data: Data, inputs: Inputs, kept: NDArray[np.bool_]) -> Array:
    """Dense features (N, DENSE). A kept row's own words are not counted as seen before."""
    common = inputs.commonness.astype(np.int64)
    rare = [rarity(common[slots] - int(own)) for slots, own in zip(data.slots, kept.tolist(), strict=True)]
    return np.hstack([data.measured, np.array(rare)])


def _labels(target: Array) -> tuple[NDArray[np.intp], NDArray[np.int64], Array | None]:
    """Rows, labels and weights that fit a logistic loss to targets in [0,1]: a row whose target is 0 or 1 stands once;
    any other twice, once for each label, weighted. Targets all alike are taken as not quite certain."""
    if len(np.unique(target)) == 1:
        target = np.clip(target, _SOFT, 1.0 - _SOFT)
    above, below = np.flatnonzero(target > 0.0), np.flatnonzero(target < 1.0)
    labels = np.repeat(np.array([1, 0]), (len(above), len(below)))
    weights = np.concatenate((target[above], 1.0 - target[below]))
    return np.concatenate((above, below)), labels, None if (weights == 1.0).all() else weights


def fit_members(
    dense: Array, flags: Table, inputs: Inputs, subject: Subject, inside: NDArray[np.bool_], seed: int
) -> Members:
    """Fit the three members of one head on the subject's rows where `inside`, on one thread: small fits gain nothing
    from more, and lose much where the machine is busy."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    index, labels, weights = _labels(subject.quality[inside])
    rows = subject.rows[inside][index]
    trees = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=0.02,
        max_leaf_nodes=SPLITS + 1,
        min_samples_leaf=30,
        l2_regularization=10.0,
        max_features=0.1,
        max_bins=63,
        early_stopping=False,
        random_state=seed,
    )
    linear = LogisticRegression(C=LINEAR_C, max_iter=1000)
    hashed = LogisticRegression(C=HASHED_C, max_iter=1000)
    with threadpool_limits(limits=1):
        return Members(
            trees.fit(dense[rows], labels, sample_weight=weights),
            linear.fit(standardise(dense[rows], inputs), labels, sample_weight=weights),
            hashed.fit(flags[rows], labels, sample_weight=weights),
        )


def export(members: Members) -> dict[str, NDArray[Any]]:
    """The arrays of one uncalibrated head, named as in `Heads`."""
    trees = [stage[0].nodes for stage in members.trees._predictors]
    feature = np.zeros((TREES, SPLITS), np.int64)
    threshold = np.full((TREES, SPLITS), np.inf)
    leaves = np.zeros((TREES, LEAF_CODES), np.float32)
    for tree, nodes in enumerate(trees):
        splits = np.flatnonzero(nodes["is_leaf"] == 0)
        feature[tree, : len(splits)] = nodes["feature_idx"][splits]
        threshold[tree, : len(splits)] = nodes["num_threshold"][splits]
        leaves[tree] = _leaf_table(nodes, splits)
    baseline = float(np.ravel(members.trees._baseline_prediction)[0])
    return {
        "split_feature": feature,
        "split_threshold": threshold,
        "leaves": leaves,
        "linear": members.linear.coef_[0].astype(np.float64),
        "hashed": members.hashed.coef_[0].astype(np.float32),
        "intercepts": np.array([baseline, members.linear.intercept_[0], members.hashed.intercept_[0]]),
    }


def _leaf_table(nodes: NDArray[Any], splits: NDArray[np.intp]) -> NDArray[np.float64]:
    """The leaf value for every combination of a tree's split answers; bit j set: split j goes left."""
    bit = {int(node): j for j, node in enumerate(splits)}
    values = np.empty(LEAF_CODES)
    for code in range(LEAF_CODES):
        node = 0
        while node in bit:
            node = int(nodes["left" if code >> bit[node] & 1 else "right"][node])
        values[code] = nodes["value"][node]
    return values


def platt(z: Array, target: Array) -> Array:
    """Slopes of own and common log odds (n, 2), and offset (Platt 1999), that fit targets in [0,1]."""
    from sklearn.linear_model import LogisticRegression

    index, labels, weights = _labels(target)
    fitted = LogisticRegression(C=CALIBRATION_C, max_iter=1000).fit(z[index], labels, sample_weight=weights)
    return np.concatenate((fitted.coef_[0], fitted.intercept_)).astype(np.float64)


def _chance(z: Array, slopes: list[float], offset: float) -> Array:
    """Platt's curve at log odds (n, 2)."""
    p: Array = 1.0 / (1.0 + np.exp(-(z @ slopes + offset)))
    return p


def lifts(p: Array, true: Array) -> tuple[Array, Array, Array]:
    """For `BOUND_POINTS` groups of rows of like P(adequate): its mean, what to add to it, and the lower bound of the
    adequate share.

    What to add is how far the adequate share lies from the mean, over all groups shrunk by what chance alone would make
    of it (the positive-part rule of James and Stein, Berkeley Symposium 1961), and never puts two rows out of order.
    """
    parts = np.array_split(np.argsort(p, kind="stable"), BOUND_POINTS)
    size = np.array([len(part) for part in parts])
    at = np.array([p[part].mean() for part in parts])
    share = np.array([true[part].mean() for part in parts])
    off = share - at
    chance = float((at * (1.0 - at) / size).sum())
    kept = max(0.0, 1.0 - chance / max(float(off @ off), 1e-12))
    bound = np.array([_wilson(one, n) for one, n in zip(share.tolist(), size.tolist(), strict=True)])
    return at, np.maximum.accumulate(at + kept * off) - at, np.maximum.accumulate(bound)


def _calibrated(
    head: dict[str, NDArray[Any]], subject: Subject, z: Array, fold: Ids
) -> tuple[dict[str, NDArray[Any]], Calibration]:
    """Add calibration to a head, and the table's row: there, each fold is calibrated on the other folds."""
    p, lifted = np.empty(len(z)), np.empty(len(z))
    for held in np.unique(fold):
        inside = fold != held
        *slopes, offset = platt(z[inside], subject.adequate[inside])
        at, lift, _ = lifts(_chance(z[inside], slopes, offset), subject.adequate[inside])
        p[~inside] = _chance(z[~inside], slopes, offset)
        lifted[~inside] = np.clip(p[~inside] + np.interp(p[~inside], at, lift), 0.0, 1.0)
    at, lift, bound = lifts(p, subject.adequate)
    head |= {
        "adequate": platt(z, subject.adequate),
        "quality": platt(z, subject.quality),
        "bound_at": at,
        "lift": lift,
        "bound": bound,
    }
    true = subject.adequate
    certain = (true == 0.0) | (true == 1.0)
    return head, Calibration(
        subject=subject.name,
        rows=len(z),
        adequate_ratio=float(true.mean()),
        auc=auc(lifted[certain], true[certain] == 1.0),
        brier=float(((lifted - true) ** 2).mean()),
        ece=ece(lifted, true),
    )


def _wilson(share: float, n: int) -> float:
    """Lower end of the one-sided 95 % score interval of a share (Wilson 1927)."""
    z2 = _BOUND_Z**2 / n
    middle = share + z2 / 2.0
    spread = _BOUND_Z * (share * (1.0 - share) / n + z2 / (4.0 * n)) ** 0.5
    return float(max((middle - spread) / (1.0 + z2), 0.0))
