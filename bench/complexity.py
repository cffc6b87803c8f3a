"""Microseconds a prompt, one thread: features, n-grams, the whole estimate, beside scikit-learn pipelines in one run.

    python bench/complexity.py [--repeats 200]

Median over repeats of single calls on prompts of about 50, 500 and 4,000 tokens; ratios travel, absolute times do not.
The pipelines are the usual way to serve such a model: hashed word and character n-grams with logistic regression, and
TF-IDF with logistic regression, through `predict_proba`, for one model where the estimate is for two.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from threadpoolctl import threadpool_limits

from router.complexity.evaluate import request_of
from router.complexity.features import measure
from router.complexity.hashing import presence, scan
from router.complexity.heuristic import HeuristicEstimator
from router.complexity.registry import default_estimator

COMMON = (
    "the of and to a in is that it for was on are as with his they at be this from have or by one had not but what all "
    "were when we there can an your which their said if do will each about how up out them then she many some so these "
    "would other into has more her two like him see time could no make than first been its who now people my made over "
    "did down only way find use may water long little very after words called just where most know equation function "
    "temperature constitution investment probability organisation infrastructure 42 1984 photosynthesis government"
)
WORDS = COMMON.split()
TOKENS = (50, 500, 4000)
TOKENS_PER_WORD = 4 / 3


def prompt_of(tokens, seed):
    """Random English-looking text of about so many tokens, in sentences, with a question at its end."""
    rng = random.Random(seed)
    words = [rng.choice(WORDS) for _ in range(int(tokens / TOKENS_PER_WORD))]
    lines = [" ".join(words[i : i + 14]).capitalize() + "." for i in range(0, len(words), 14)]
    return "\n".join(lines) + "\nWhich is it?"


def microseconds(call, inputs, repeats):
    """Median time of a single call."""
    times = []
    for number in range(repeats):
        given = inputs[number % len(inputs)]
        began = time.perf_counter_ns()
        call(given)
        times.append((time.perf_counter_ns() - began) / 1e3)
    return statistics.median(times)


def pipelines():
    """Fitted scikit-learn pipelines by name."""
    prompts = [prompt_of(random.Random(i).choice(TOKENS[:2]), i) for i in range(200)]
    labels = np.arange(200) % 2
    grams = make_union(
        HashingVectorizer(ngram_range=(1, 2), n_features=1 << 13),
        HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=1 << 14),
    )
    models = {
        "sklearn: hashed words + characters, LR": make_pipeline(grams, LogisticRegression()),
        "sklearn: TF-IDF(1-2), LR": make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()),
    }
    return {name: model.fit(prompts, labels) for name, model in models.items()}


def main():
    """Print one row per part and the ratios of the last column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    estimator, heuristic = default_estimator(), HeuristicEstimator()
    peers = pipelines()
    rows = {}
    for tokens in TOKENS:
        requests = [request_of(prompt_of(tokens, seed)) for seed in range(8)]
        texts = [request.prompt.last_user for request in requests]
        scans = [(request.prompt, scan(text)) for request, text in zip(requests, texts, strict=True)]
        parts = {
            "scan (shared)": (scan, texts),
            "features": (lambda pair: measure(*pair), scans),
            "n-gram presence": (lambda pair: presence(pair[1]), scans),
            "heuristic estimate": (heuristic.estimate, requests),
            "trained estimate, 2 heads": (estimator.estimate, requests),
        }
        parts |= {name: (lambda text, m=model: m.predict_proba([text]), texts) for name, model in peers.items()}
        for name, (call, inputs) in parts.items():
            rows.setdefault(name, []).append(microseconds(call, inputs, repeats))
    print(f"{'us a prompt, tokens:':42}" + "".join(f"{tokens:>10}" for tokens in TOKENS))
    for name, times in rows.items():
        print(f"{name:42}" + "".join(f"{t:10.1f}" for t in times))
    ours = rows["trained estimate, 2 heads"]
    for name in peers:
        print(f"{name + ' / ours':42}" + "".join(f"{a / b:10.1f}" for a, b in zip(rows[name], ours, strict=True)))


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
