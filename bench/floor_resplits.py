"""Does "lose at most .05 against large" hold on rows that nobody trained or calibrated on?

    python bench/floor_resplits.py OUTCOMES --small MODEL --large MODEL [--train-rows 3000] [--splits 4] [--resplits 50]
    python bench/floor_resplits.py OUTCOMES --small MODEL --large MODEL \\
        --onto OTHER --other-small MODEL --other-large MODEL

Each split trains on rows drawn at random; the rest is re-split into rows to calibrate on and rows to look at, which is
what `router evaluate --floor-loss` does. `plain` takes the least share whose mean loss on the calibration rows is under
the bound; `on average` is the bet against the expected loss alone; `promised` counts the scatter of the rows ahead in.

With `--onto` the threshold is calibrated on OUTCOMES and used on another benchmark as it is: `guarded` sends prompts to
large whose novelty is over that of 99 % of the calibration rows; `recalibrated` chooses on half of OTHER.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

from router.complexity import train as fitting
from router.complexity.artefact import File
from router.complexity.evaluate import area, recovered, request_of
from router.complexity.outcomes import Source, read_outcomes
from router.complexity.trained import TrainedEstimator
from router.domain.deployment import Tier
from router.learning import guarantee
from router.learning.guarantee import THRESHOLDS, Chosen, Promise, choose, resplit
from router.stats.binomial import clopper_pearson

PROMISED = 0.05


def read(path, small, large):
    """Examples that both models answered."""
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).splitlines()
    return [e for e in read_outcomes(lines, path.name) if {small, large} <= e.outcomes.keys()]


class Rows:
    """What an estimator says of examples, and what is true: score and loss by way of counting, gain, novelty."""

    def __init__(self, estimator, examples, small, large):
        said = [estimator.estimate(request_of(e.prompt)) for e in examples]
        p = np.array([[s.quality(small, Tier.SMALL), s.quality(large, Tier.LARGE)] for s in said])
        quality = np.array([[e.outcomes[m].quality for m in (small, large)] for e in examples])
        self.gain = quality[:, 1] - quality[:, 0]
        self.novelty = np.array([s.novelty for s in said])
        self.scores = {"losses and gains": p[:, 1] - p[:, 0], "losses only": (1.0 - p[:, 0]) * p[:, 1]}
        self.losses = {"losses and gains": self.gain, "losses only": np.maximum(self.gain, 0.0)}


def plain(score, loss, promise):
    """The highest threshold whose mean loss on the rows themselves is under the bound: no bound at all."""
    best = Chosen(-1.0, 1.0, 0.0)
    for threshold in THRESHOLDS.tolist():
        lost = np.where(score < threshold, loss, 0.0).mean()
        if lost <= promise.epsilon:
            best = Chosen(threshold, float((score >= threshold).mean()), float(lost))
    return best


def fit(examples, args, seed):
    """An estimator trained on some of the rows, and the others."""
    order = np.random.default_rng(seed).permutation(len(examples))
    kept = tuple(examples[i] for i in order[: args.train_rows])
    source = Source(File(args.outcomes.name, "", len(kept)), kept)
    fitted = fitting.train([source], small=[args.small], large=[args.large], seed=seed)
    return TrainedEstimator(fitted.model), [examples[i] for i in order[args.train_rows :]]


def same(args):
    """Other questions of the same benchmark."""
    examples, seen, areas = read(args.outcomes, args.small, args.large), {}, []
    for seed in range(args.splits):
        estimator, rest = fit(examples, args, seed)
        pair = ((args.small, Tier.SMALL), (args.large, Tier.LARGE))
        rows = Rows(estimator.serving(pair), rest, args.small, args.large)
        areas.append(area(recovered(rows.scores["losses and gains"], rows.gain)))
        ways = {
            "plain": (plain, None),
            "on average": (choose, None),
            "promised": (choose, len(rest) - args.calibrate),
        }
        for counted, loss in rows.losses.items():
            for way, (chooser, ahead) in ways.items():
                guarantee.choose = chooser
                found = resplit(
                    rows.scores[counted],
                    rows.gain,
                    loss,
                    Promise(PROMISED, ahead=ahead),
                    calibrate=args.calibrate,
                    times=args.resplits,
                    seed=seed,
                )
                seen.setdefault((counted, way), []).append(found)
    guarantee.choose = choose
    print(
        f"{args.splits} x {args.resplits} re-splits; trained on {args.train_rows}, calibrated on {args.calibrate}, "
        f"seen on {len(rest) - args.calibrate}; APGR {np.mean(areas):.3f}"
    )
    for (counted, way), found in seen.items():
        loss, share, pgr = (np.concatenate([getattr(f, n) for f in found]) for n in ("loss", "large_share", "pgr"))
        held = int((loss <= PROMISED).sum())
        low, high = clopper_pearson(held, len(loss))
        print(
            f"{counted:17} {way:11} held {held / len(loss):.3f} ({low:.3f} to {high:.3f}), to large {share.mean():.3f} "
            f"(sd {share.std():.3f}), lost {loss.mean():.4f}, PGR {pgr.mean():.3f}"
        )


def onto(args):
    """Another benchmark, with the threshold of this one."""
    examples = read(args.outcomes, args.small, args.large)
    other = read(args.onto, args.other_small, args.other_large)
    table = {}
    for seed in range(args.splits):
        estimator, rest = fit(examples, args, seed)
        rest = rest[: args.calibrate]
        here = Rows(
            estimator.serving(((args.small, Tier.SMALL), (args.large, Tier.LARGE))), rest, args.small, args.large
        )
        there = Rows(estimator.serving(()), other, args.other_small, args.other_large)
        score, gain = there.scores["losses and gains"], there.gain
        promise = Promise(PROMISED, ahead=len(other))
        chosen = choose(here.scores["losses and gains"], here.gain, promise)
        usual = np.quantile(here.novelty, 0.99)
        guarded = np.where(there.novelty > usual, 1.0, score)
        half = np.random.default_rng(seed).permutation(len(other))
        known, new = half[: len(half) // 2], half[len(half) // 2 :]
        anew = choose(score[known], gain[known], Promise(PROMISED, ahead=len(new)))
        for way, where, to_large in (
            ("as calibrated", slice(None), score >= chosen.threshold),
            ("guarded", slice(None), guarded >= chosen.threshold),
            ("recalibrated", new, score[new] >= anew.threshold),
        ):
            lost = np.where(to_large, 0.0, gain[where]).mean()
            table.setdefault(way, []).append((to_large.mean(), lost))
        print(f"split {seed}: novelty over {usual:.3f} in {(there.novelty > usual).mean():.2f} of {args.onto.name}")
    for way, found in table.items():
        share, lost = np.mean(found, axis=0)
        print(f"{way:14} to large {share:.3f}, promised {PROMISED}, lost {lost:.4f}")


def main():
    """Run one of both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--small", required=True)
    parser.add_argument("--large", required=True)
    parser.add_argument("--train-rows", type=int, default=3000)
    parser.add_argument("--calibrate", type=int, default=2000)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--resplits", type=int, default=50)
    parser.add_argument("--onto", type=Path)
    parser.add_argument("--other-small")
    parser.add_argument("--other-large")
    args = parser.parse_args()
    (onto if args.onto else same)(args)


if __name__ == "__main__":
    main()
