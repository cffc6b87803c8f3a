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
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from threadpoolctl import threadpool_limits

from router.complexity import train as fitting
from router.complexity.artefact import File
from router.complexity.evaluate import area, ece, recovered, request_of
from router.complexity.outcomes import Source, adequacy, read_outcomes
from router.complexity.trained import TrainedEstimator
from router.domain.deployment import Tier

MEMBERS = ("trees", "linear", "hashed")
REFERENCES = ("length", "tf-idf", "chars", "boosted")


def references(prompts, structural, gain, kept, seed):
    """The usual ways, each fitted to "large is better", by name: held-out log odds; length needs no fit."""
    larger = gain[kept] > 0
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    words = LogisticRegression(C=0.3, max_iter=1000).fit(vectors.fit_transform(prompts[kept]), larger)
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=1 << 18, alternate_sign=False)
    chars = SGDClassifier(loss="log_loss", random_state=seed).fit(hashing.transform(prompts[kept]), larger)
    boosted = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, random_state=seed)
    with threadpool_limits(limits=1):
        boosted.fit(structural[kept], larger)
    return {
        "length": np.array([len(prompt) for prompt in prompts[~kept]], float),
        "tf-idf": words.decision_function(vectors.transform(prompts[~kept])),
        "chars": chars.decision_function(hashing.transform(prompts[~kept])),
        "boosted": boosted.decision_function(structural[~kept]),
    }


def folds_of(keys, k, seed):
    """Fold by key, shape (n,): every key falls in one fold."""
    unique, index = np.unique(keys, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(unique)) % k)[index]


def served(fitted, pair, examples):
    """What an artefact says of each example, as it is served: P(adequate) (2, n), and each member's (3, n) score."""
    estimator = TrainedEstimator(fitted.model).serving(pair)
    chances, members = [], []
    for example in examples:
        request = request_of(example.prompt)
        said = estimator.estimate(request)
        chances.append([said.of(model, tier) for model, tier in pair])
        z = estimator._predictor.logits(*estimator.dense(request))[:, :2]
        members.append(np.diff(1.0 / (1.0 + np.exp(-z)), axis=1)[:, 0])
    return np.array(chances).T, np.array(members).T


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
    pair = ((args.small, Tier.SMALL), (args.large, Tier.LARGE))
    quality = np.array([[e.outcomes[model].quality for model, _ in pair] for e in examples]).T
    truth = np.array([[v[model] for model, _ in pair] for v in adequacy(examples, args.large)], float).T
    gain = quality[1] - quality[0]
    prompts = np.array([e.prompt for e in examples], object)
    structural = fitting.prepare(examples, seed=0).measured
    keys = {
        "same": np.array([e.prompt.strip() for e in examples]),
        "unseen": np.array([e.source for e in examples]),
    }
    for question in (args.only,) if args.only else ("same", "unseen"):
        rows = {name: [] for name in (*REFERENCES, *MEMBERS, "served")}
        pooled = np.empty(truth.shape)
        began = time.perf_counter()
        for seed in range(args.repeats):
            fold = folds_of(keys[question], 5, seed)
            for held in range(5):
                out = fold == held
                kept = tuple(e for e, left in zip(examples, out, strict=True) if not left)
                source = Source(File(args.outcomes.name, "", len(kept)), kept)
                fitted = fitting.train([source], small=[args.small], large=[args.large], seed=seed)
                chances, members = served(fitted, pair, [e for e, left in zip(examples, out, strict=True) if left])
                pooled[:, out] = chances
                scores = references(prompts, structural, gain, ~out, seed)
                scores |= dict(zip(MEMBERS, members, strict=True)) | {"served": chances[1] - chances[0]}
                for name, score in scores.items():
                    rows[name].append(area(recovered(score, gain[out])))
            print(f"{question}, repeat {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for name, values in rows.items():
            error = np.std(values) / len(values) ** 0.5
            print(f"{question:7} {name:11} APGR {np.mean(values):.4f} +- {error:.4f}")
        print(f"{question:7} ECE small {ece(pooled[0], truth[0]):.4f} large {ece(pooled[1], truth[1]):.4f}")


if __name__ == "__main__":
    main()
