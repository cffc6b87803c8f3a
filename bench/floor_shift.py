"""Is the promised share adequate still served when the estimator comes to be wrong?

    python bench/floor_shift.py [--requests 6000] [--seeds 3] [--goal cost]

Simulated, in the daemon's dispatcher: one class with a floor of .90 over a small and a large deployment. P(small is
adequate) is uniform; large is adequate for 98 of 100. From the middle on the estimate is too high by so much for small.
`adequate` is the share of what is served in the second half. `counts as said`: the price integrates what the estimator
says, as if no verdict were ever told and no prompt were novel; beliefs learn from feedback either way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from random import Random
from unittest.mock import patch

import numpy as np

from bench.fleets import SMALL_LARGE
from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.core import weigher
from router.core.floor import book, doubt
from router.domain.deployment import Tier
from router.domain.request import Request
from router.domain.slo import Goal, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.report import Served
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload
from router.slo.floor import FloorPrice

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"
LARGE_ADEQUATE, PER_S, FLOOR = 0.98, 6.0, 0.9


class Shifting:
    """Says what a row's `estimate` says; from the middle on with this novelty, and a bound that is lower by it."""

    def __init__(self, workload: Workload, novelty: float) -> None:
        self._rows, self._novelty = workload.arrivals, novelty

    def estimate(self, request: Request) -> Scored:
        """See `router.complexity.estimator.Estimator`."""
        number = int(request.id)
        p = self._rows[number].estimate
        novelty = self._novelty if number >= len(self._rows) // 2 else 0.0
        lows = {model: q * (1.0 - novelty) for model, q in p.items()}
        tiers = {Tier.SMALL: p[SMALL], Tier.LARGE: p[LARGE]}
        return Scored(1.0 - p[SMALL], "chat", p, tiers, lows=lows, novelty=novelty)


def workload(requests: int, off: float, seed: int) -> Workload:
    """Rows with truth by the estimate until the middle, and by so much less for small from there on."""
    rng, now, rows = Random(seed), 0.0, []
    for number in range(requests):
        p = rng.uniform(0.2, 1.0)
        true = max(p - (off if number >= requests // 2 else 0.0), 0.0)
        quality = {SMALL: float(rng.random() < true), LARGE: float(rng.random() < LARGE_ADEQUATE)}
        lengths = rng.randint(200, 800), rng.randint(30, 90)
        rows.append(Arrival(now, *lengths, quality=quality, estimate={SMALL: p, LARGE: LARGE_ADEQUATE}))
        now += rng.expovariate(PER_S)
    return Workload(tuple(rows))


def setting(
    requests: int, *, off: float, feedback: float, novelty: float, seed: int = 0, goal: Goal = Goal.COST
) -> Setting:
    """One simulation."""
    rows, fleet = workload(requests, off, seed), read_fleet(SMALL_LARGE)
    promise = Objectives(ttft=Objective(Indicator.TTFT, 2.0), tpot=Objective(Indicator.TPOT, 0.2))
    one = RequestClass("all", objectives=promise, floor=QualityFloor(FLOOR), goal=goal)
    policy = Policy("bench", (one,), deployments(fleet), usd_per_useful=1.0)
    return Setting(rows, fleet, policy, Shifting(rows, novelty), seed=seed, feedback_ratio=feedback)


def second_half(served: Iterable[Served], requests: int) -> tuple[float, float]:
    """Share adequate, and sent to large, of what was served of the second half."""
    late = [s for s in served if int(s.request_id) >= requests // 2 and s.adequate is not None]
    return sum(bool(s.adequate) for s in late) / len(late), sum(s.deployment == "large" for s in late) / len(late)


def main():
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", choices=[goal.value for goal in Goal], default="cost")
    args = parser.parse_args()
    print(f"floor {FLOOR}; {args.requests} requests, second half, mean of {args.seeds} seeds (least)")
    for off, feedback, novelty in (
        (0.0, 0.0, 0.0),
        (0.0, 0.1, 0.0),
        (0.1, 0.0, 0.0),
        (0.1, 0.1, 0.0),
        (0.1, 0.02, 0.0),
        (0.3, 0.1, 0.0),
        (0.1, 0.0, 0.4),
        (0.3, 0.0, 0.4),
    ):
        case, cells = {"off": off, "feedback": feedback, "novelty": novelty}, []
        for ways in (
            (),
            (
                patch.object(FloorPrice, "on_verdict", lambda *_: None),
                patch.object(doubt, "FAMILIAR", 2.0),
                patch.object(book, "FAMILIAR", 2.0),
                patch.object(weigher, "FAMILIAR", 2.0),
            ),
        ):
            for way in ways:
                way.start()
            runs = [play(setting(args.requests, **case, seed=seed, goal=Goal(args.goal))) for seed in range(args.seeds)]
            found = np.array([second_half(run.served, args.requests) for run in runs])
            for way in ways:
                way.stop()
            adequate, large = found.mean(axis=0)
            cells.append(f"adequate {adequate:.3f} ({found[:, 0].min():.3f}), to large {large:.3f}")
        print(f"too high by {off}, feedback {feedback:<4}, novelty {novelty}: {cells[0]} | counts as said: {cells[1]}")


if __name__ == "__main__":
    main()
