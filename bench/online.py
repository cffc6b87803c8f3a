"""What does learning from the chosen model's answers bring? `python -m bench.online OUTCOMES`

Every row is scored on outcomes that the prior was not fitted on.

* budget: half of ParetoBandit's rows (by a seeded draw) and all other files fit the prior; the other half is the
  stream, 20 orders, at five budgets. Beside it ParetoBandit's own figures on its test split (arXiv 2604.00136) and the
  straight mixture of fixed models at the same cost.
* event: the same, where the middle model's quality is .75 for the middle third.
* feedback: a group of sources is left out of the prior; 1,000 feedbacks of the chosen model against none and against
  both outcomes. The gain is in APGR, the mean over orders.

OUTCOMES is a folder with `mmlu_two_models`, `tasks_nine_models` and `paretobandit_val` as `.jsonl.gz`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from router.cli.train import read_files
from router.complexity import train as fitting
from router.complexity.costs import CostForecast, fit_costs
from router.complexity.outcomes import Example, Source
from router.complexity.trained import TrainedEstimator
from router.sim.online.frozen import Pair, compare
from router.sim.online.happenings import parse_happening
from router.sim.online.references import Interval
from router.sim.online.stream import Streamed, cases_of, stream

FILES = ("mmlu_two_models", "tasks_nine_models", "paretobandit_val")
SMALL = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "meta-llama/llama-3.1-8b-instruct")
LARGE = ("gpt-4-1106-preview", "mistralai/mistral-large-2512", "google/gemini-2.5-pro")
TRIO = ("meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512", "google/gemini-2.5-pro")
BUDGETS = ((8.3e-5, 0.813), (2.3e-4, 0.859), (6.6e-4, 0.898), (1.9e-3, 0.917), (5.3e-3, 0.924))
"""USD a request, and ParetoBandit's quality there."""
EVENT = ".33-.67:mistralai/mistral-large-2512:quality=.75"
ORDERS = 20


class Group(NamedTuple):
    """Sources that are left out, and the two models that are routed between on them."""

    name: str
    is_out: Callable[[str], bool]
    small: str
    large: str


def drawn(sources: Sequence[str], count: int, seed: int) -> frozenset[str]:
    """So many of the sources."""
    return frozenset(Random(seed).sample(sorted(set(sources)), count))


def fit(sources: Sequence[Source], is_out: Callable[[Example], bool]) -> tuple[TrainedEstimator, CostForecast | None]:
    """A prior of all rows but those."""
    kept = [replace(s, examples=[e for e in s.examples if not is_out(e)]) for s in sources]
    kept = [s for s in kept if s.examples]
    named = {model for s in kept for e in s.examples for model in e.outcomes}
    small, large = [m for m in SMALL if m in named], [m for m in LARGE if m in named]
    estimator = TrainedEstimator(fitting.train(kept, small=small, large=large).model)
    return estimator, fit_costs([e for s in kept for e in s.examples], estimator)


def budgets(sources: Sequence[Source], split: int, event: str | None) -> None:
    """One line a budget."""
    rows = sources[FILES.index("paretobandit_val")].examples
    held = frozenset(e.prompt for e in Random(split).sample(list(rows), len(rows) // 2))
    prior, forecast = fit(sources, lambda e: e.prompt in held)
    cases = cases_of([e for e in rows if e.prompt in held], TRIO, prior, forecast)
    happenings = [] if event is None else [parse_happening(event)]
    for usd, theirs in BUDGETS:
        result = stream(cases, TRIO, budget_usd=usd, seeds=ORDERS, happenings=happenings)
        quality, lead = span(result.quality), span(result.against.lead)
        line = f"split {split}  {usd:.1e}  quality {quality}  ParetoBandit {theirs:.3f}  lead on the mixture {lead}"
        print(f"{line}  cost/budget {result.budget_ratio:.3f}{dip(result, event)}", flush=True)


def span(interval: Interval) -> str:
    """A mean and its interval."""
    return f"{interval.mean:.4f} ({interval.low:.4f} .. {interval.high:.4f})"


def dip(result: Streamed, event: str | None) -> str:
    """The share of the model that fell: before, from 150 requests after the change, and in the last hundred."""
    if event is None:
        return ""
    shares = [bin_[TRIO[1]] for bin_ in result.shares_by_50]
    fell, rose = int(0.33 * result.rows / 50) + 1, int(0.67 * result.rows / 50) + 1
    parts = shares[2 : fell - 1], shares[fell + 3 : rose - 1], shares[-2:]
    return "  share " + " -> ".join(f"{sum(p) / len(p):.3f}" if p else "-" for p in parts)


def feedback(sources: Sequence[Source], group: Group) -> None:
    """One line a group."""
    prior, _ = fit(sources, lambda e: group.is_out(e.source))
    rows = [e for s in sources for e in s.examples if group.is_out(e.source)]
    pair = Pair(group.small, group.large, 0.5, 1000)
    result = compare(rows, prior.serving(pair.tiers), pair, seeds=ORDERS, clock_ns=time.perf_counter_ns)
    before, after, full = (one.overall.apgr or 0.0 for one in (result.before, result.after, result.full_feedback))
    share = "-" if full <= before else f"{(after - before) / (full - before):.2f}"
    print(
        f"{group.name:28} before {before:.3f}  after {after:.3f}  full {full:.3f}  share of the gain {share}",
        flush=True,
    )


def groups(sources: Sequence[Source]) -> list[Group]:
    """Thirds of MMLU's subjects, five of nine tasks, and a whole benchmark."""
    mmlu, tasks, _ = ([e.source for e in s.examples] for s in sources)
    found = []
    for seed in (0, 1):
        out = drawn(mmlu, len(set(mmlu)) // 3, seed)
        found.append(Group(f"a third of MMLU, draw {seed}", out.__contains__, SMALL[0], LARGE[0]))
    for seed in (0, 1):
        out = drawn(tasks, 5, seed)
        pair = ("mistral-7b-instruct-v0.3", "llama-3.1-nemotron-51b-instruct")
        found.append(Group(f"five of nine tasks, draw {seed}", out.__contains__, *pair))
    rest = frozenset(mmlu) | frozenset(tasks)
    found.append(Group("ParetoBandit's thirty", lambda s: s not in rest, TRIO[0], TRIO[1]))
    return found


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--rows", nargs="*", default=["budget", "event", "feedback"])
    parser.add_argument("--splits", nargs="*", type=int, default=[0, 1])
    args = parser.parse_args()
    sources = read_files([args.outcomes / f"{name}.jsonl.gz" for name in FILES])
    if "feedback" in args.rows:
        for group in groups(sources):
            feedback(sources, group)
    for name, event in (("budget", None), ("event", EVENT)):
        if name in args.rows:
            print(f"{name}:", file=sys.stderr)
            for split in args.splits:
                budgets(sources, split, event)


if __name__ == "__main__":
    main()
