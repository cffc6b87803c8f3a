"""Where do the constants of the demo's traffic come from? Fits them to public traces and prints them.

Arrivals: a two-state Markov-modulated Poisson process. Requests are counted in bins of one second and a
two-state Poisson hidden Markov model is fitted by expectation-maximisation (Baum-Welch); the mean stay in a
state is the bin width over the probability of leaving it. Tokens: a lognormal, by mean and deviation of the
logarithms. The traces are Azure's LLM inference traces of 2023 (CC-BY-4.0) and ServeGen's (Apache-2.0).

    python bench/fit_arrivals.py [FOLDER WITH THE TRACES]
"""

from __future__ import annotations

import csv
import gzip
import sys
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

TRACES = ("azure2023_conv_h1", "azure2023_code_h1", "servegen_mlarge_d1", "servegen_msmall_d5")
HOUR_S = 3600
Array = NDArray[np.float64]


def read(path: Path) -> Array:
    """Rows of arrival (s), input tokens, output tokens; the busiest hour of what is longer."""
    with gzip.open(path, "rt") as lines:
        rows = [(r["arrival_s"], r["input_tokens"], r["output_tokens"]) for r in csv.DictReader(lines)]
    trace = np.array(rows, dtype=float)
    if trace[-1, 0] > 2 * HOUR_S:
        hours = (trace[:, 0] // HOUR_S).astype(int)
        trace = trace[hours == np.bincount(hours).argmax()]
        trace[:, 0] %= HOUR_S
    return trace


def fit_states(counts: Array, rounds: int = 200) -> tuple[Array, Array]:
    """Rates a bin of a quiet and a busy state, and each one's probability of being left after a bin."""
    rates = np.quantile(counts, [0.25, 0.97]) + np.array([0.1, 1.0])
    stay = np.array([[0.95, 0.05], [0.2, 0.8]])
    start = np.array([0.5, 0.5])
    for _ in range(rounds):
        seen = np.maximum(poisson.pmf(counts[:, None], rates), 1e-300)
        forward, scale = np.empty_like(seen), np.empty(len(seen))
        state = start
        for t, likely in enumerate(seen):
            state = state * likely
            scale[t] = state.sum()
            state = forward[t] = state / scale[t]
            state = state @ stay
        moves = np.zeros((2, 2))
        weights = np.empty_like(seen)
        back = np.ones(2)
        for t in range(len(seen) - 1, -1, -1):
            weights[t] = forward[t] * back
            if t:
                ahead = seen[t] * back / scale[t]
                moves += forward[t - 1][:, None] * stay * ahead
                back = stay @ ahead
        start = weights[0] / weights[0].sum()
        stay = moves / moves.sum(axis=1, keepdims=True)
        rates = (weights * counts[:, None]).sum(axis=0) / weights.sum(axis=0)
    order = np.argsort(rates)
    return rates[order], 1 - np.diag(stay)[order]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared/data/traces"
    if not folder.is_dir():
        print(f"skipped: there are no traces in {folder}")
        return
    for name in TRACES:
        trace = read(folder / f"{name}.csv.gz")
        gaps = np.diff(trace[:, 0])
        rates, leave = fit_states(np.bincount(trace[:, 0].astype(int)).astype(float))
        stays = 1 / leave
        print(f"{name}: {len(trace)} requests, {1 / gaps.mean():.2f}/s, CV of gaps {gaps.std() / gaps.mean():.2f}")
        print(f"  quiet {rates[0]:.3f}/s for {stays[0]:.2f} s, busy {rates[1]:.3f}/s for {stays[1]:.2f} s")
        for column, what in ((1, "input"), (2, "output")):
            logs = [log(tokens) for tokens in trace[:, column] if tokens > 0]
            print(f"  {what} lognormal mu {np.mean(logs):.3f} sigma {np.std(logs):.3f}")


if __name__ == "__main__":
    main()
