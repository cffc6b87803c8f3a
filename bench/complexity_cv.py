"""Cross-validated routing quality of the estimator that `router train` fits, beside simpler ones on the same folds.

    python bench/complexity_cv.py OUTCOMES --small MODEL --large MODEL [--repeats 3]

Two questions: other prompts of the same sources ("same"; folds by prompt) and sources never seen ("unseen"; folds by
source). APGR is the mean over folds, +- its standard error; calibration (ECE) is pooled. No fold's rows are ever seen
by the models that score it, scales, word counts and calibration included.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from router.complexity import train as fitting
from router.complexity.artefact import File
from router.complexity.evaluate import area, ece, recovered
from router.complexity.outcomes import Source, read_outcomes, subjects_of
from router.complexity.trained import BLEND, sigmoid

MEMBERS = ("trees", "linear", "hashed")


def tfidf(prompts, gain, kept):
    """The usual baseline: TF-IDF of words and pairs, logistic regression on "large is better", held-out log odds."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    fitted = LogisticRegression(C=0.3, max_iter=1000).fit(vectors.fit_transform(prompts[kept]), gain[kept] > 0)
    return fitted.decision_function(vectors.transform(prompts[~kept]))


def folds_of(keys, k, seed):
    """Fold by key, shape (n,): every key falls in one fold."""
    unique, index = np.unique(keys, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(unique)) % k)[index]


def calibrated(z, truth, train, inner):
    """Platt scaling fitted on the training rows' own out-of-fold log odds."""
    slope, offset = fitting.platt(inner, truth[train])
    return sigmoid(slope * z + offset)


def fold_scores(data, subjects, fold, held, seed):
    """Log odds of each member and the calibrated probability, (models, 3, n) and (models, n), of the held-out rows."""
    kept = fold != held
    inputs = fitting.fit_inputs(data, kept)
    dense = fitting.dense_of(data, inputs, kept)
    everyone = np.flatnonzero(~kept)
    logits, chances = [], []
    for subject in subjects:
        members = fitting.fit_members(dense, data.flags, inputs, subject, kept, seed)
        z = members.logits(dense[everyone], data.flags[everyone], inputs)
        inner = inner_logits(data, subject, kept, inputs, dense, seed)
        logits.append(z)
        chances.append(calibrated(np.array(BLEND) @ z, subject.adequate, kept, inner))
    return np.array(logits), np.array(chances)


def inner_logits(data, subject, kept, inputs, dense, seed):
    """Out-of-fold blended log odds inside the training rows, for calibration; scales and counts are shared."""
    inner = np.empty(len(kept))
    for part in range(fitting.FOLDS):
        inside = kept & (data.fold != part)
        scored = np.flatnonzero(kept & (data.fold == part))
        members = fitting.fit_members(dense, data.flags, inputs, subject, inside, seed)
        inner[scored] = np.array(BLEND) @ members.logits(dense[scored], data.flags[scored], inputs)
    return inner[kept]


def main():
    """Run both questions and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--small", required=True)
    parser.add_argument("--large", required=True)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", choices=("same", "unseen"))
    args = parser.parse_args()
    raw = args.outcomes.read_bytes()
    lines = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).splitlines()
    examples = read_outcomes(lines, str(args.outcomes))
    examples = [e for e in examples if {args.small, args.large} <= e.outcomes.keys()]
    data = fitting.prepare(examples, seed=0)
    source = Source(File(args.outcomes.name, "", len(examples)), tuple(examples))
    by_name = {s.model: s for s in subjects_of([source], [args.small], [args.large])}
    subjects = [by_name[args.small], by_name[args.large]]
    gain = subjects[1].quality - subjects[0].quality
    truth = np.array([s.adequate for s in subjects])
    prompts = np.array([e.prompt for e in examples], object)
    length = np.array([len(prompt) for prompt in prompts], float)
    keys = {
        "same": np.array([e.prompt.strip() for e in examples]),
        "unseen": np.array([e.source for e in examples]),
    }
    for question in (args.only,) if args.only else ("same", "unseen"):
        rows = {name: [] for name in ("length", "tf-idf", *MEMBERS, "blend", "calibrated")}
        pooled = np.empty(truth.shape)
        began = time.perf_counter()
        for seed in range(args.repeats):
            fold = folds_of(keys[question], 5, seed)
            for held in range(5):
                out = fold == held
                logits, chances = fold_scores(data, subjects, fold, held, seed)
                pooled[:, out] = chances
                scores = {"length": length[out], "tf-idf": tfidf(prompts, gain, ~out)}
                scores["calibrated"] = chances[1] - chances[0]
                scores |= {m: np.diff(sigmoid(logits[:, i]), axis=0)[0] for i, m in enumerate(MEMBERS)}
                scores["blend"] = np.diff(sigmoid(np.array(BLEND) @ logits), axis=0)[0]
                for name, score in scores.items():
                    rows[name].append(area(recovered(score, gain[out])))
            print(f"{question}, repeat {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for name, values in rows.items():
            error = np.std(values) / len(values) ** 0.5
            print(f"{question:7} {name:11} APGR {np.mean(values):.4f} +- {error:.4f}")
        print(f"{question:7} ECE small {ece(pooled[0], truth[0]):.4f} large {ece(pooled[1], truth[1]):.4f}")


if __name__ == "__main__":
    main()
