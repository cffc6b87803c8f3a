"""What is a check of answers worth? Cost at the same share of adequate answers, with a cascade and without.

    python bench/cascade.py [--requests 6000] [--seeds 2]

A small and a large model (prices 1 : 10) in the simulator, under one policy whose floor is swept. The estimator is
calibrated and sees the prompt only; where the small model is wrong the large one's log odds are lower by 1, as measured
between two models on MMLU. All answers are fed back, and the class may explore 5 %. Every check is given as the share
of inadequate answers that it catches and of adequate ones that it raises a false alarm over; nothing tells the router
how strong it is. The first half of each run is for learning and is not counted.

`ratio` is the cost with the check over the cost of prompt-only routing at the adequacy that was reached, which is read
off prompt-only's own curve (straight between its points); a check that says nothing should come out at 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from statistics import mean

from msgspec import Struct

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.core.cascade.option import SHARED_DIFFICULTY
from router.domain.request import Request
from router.domain.slo import Cascade, Check, Goal, Indicator, Objective, Objectives, QualityFloor, RequestClass
from router.policy.policy import Policy
from router.sim.checked.strength import Strength
from router.sim.recorded import RecordedEstimator
from router.sim.report import Served
from router.sim.run import Setting, play
from router.sim.workload import Arrival, Workload
from router.stats.normal import logit, sigmoid

SMALL, LARGE = "small-8b", "large-70b"
FLOORS = (0.80, 0.86)
CHECKS = {
    "none": None,
    "worthless": Strength(0.2, 0.2),
    "weak": Strength(0.4, 0.1),
    "fair": Strength(0.7, 0.05),
    "strong": Strength(0.95, 0.02),
    "strong, 1 s": Strength(0.95, 0.02, 1.0),
}
EXPLORATION, FEEDBACK = 0.05, 1.0
_P_LARGE = 0.95
FLEET = """
deployments:
  - name: small
    model: small-8b
    tier: small
    price_usd_per_mtok: {input: 0.22, output: 0.22}
    step_ms: {base: 6.6746, per_sequence: 0.058176, per_context_token: 0.000032, per_prefill_token: 0.0209}
  - name: large
    model: large-70b
    tier: large
    price_usd_per_mtok: {input: 2.2, output: 2.2}
    step_ms: {base: 16.4034, per_sequence: 0.080096, per_context_token: 0.000023, per_prefill_token: 0.0650}
"""


class Point(Struct, frozen=True):
    """The last half of a run: share adequate of what was served, USD a thousand requests, share called twice."""

    adequate: float
    usd_per_1k: float
    twice: float


class _Unknown:
    """Every row has its estimate."""

    def estimate(self, request: Request) -> Scored:
        raise AssertionError(request.id)


def arrivals(requests: int, *, seed: int) -> Workload:
    """Poisson, two a second. P(small adequate) is log-normal in its odds, and known; large is right on .95."""
    rng, now, rows = Random(f"{seed}/cascade"), 0.0, []
    for _ in range(requests):
        p = sigmoid(rng.gauss(0.6, 1.2))
        is_right = rng.random() < p
        if_wrong = sigmoid(logit(_P_LARGE) - SHARED_DIFFICULTY)
        if_right = min((_P_LARGE - (1.0 - p) * if_wrong) / p, 1.0)
        quality = {SMALL: float(is_right), LARGE: float(rng.random() < (if_right if is_right else if_wrong))}
        rows.append(
            Arrival(
                now,
                rng.randint(200, 1000),
                rng.randint(100, 300),
                quality=quality,
                estimate={SMALL: p, LARGE: _P_LARGE},
            )
        )
        now += rng.expovariate(2.0)
    return Workload(tuple(rows))


def setting(
    what: Workload, check: Strength | None, floor: float, *, seed: int, exploration: float = EXPLORATION
) -> Setting:
    """Least cost above a floor, answers within 30 s."""
    fleet = read_fleet(FLEET)
    request_class = RequestClass(
        "all",
        objectives=Objectives(e2e=Objective(Indicator.E2E, 30.0)),
        floor=QualityFloor(floor),
        goal=Goal.COST,
        exploration_ratio=exploration,
        cascade=None if check is None else Cascade((Check.CALLBACK,), max_wait_s=20.0),
    )
    policy = Policy("bench", (request_class,), deployments(fleet))
    return Setting(what, fleet, policy, RecordedEstimator(what, _Unknown()), seed, FEEDBACK, check=check)


def measured(served: Sequence[Served]) -> Point:
    """What the last half of a run came to."""
    late = served[len(served) // 2 :]
    return Point(
        adequate=mean(bool(one.adequate) for one in late),
        usd_per_1k=1e3 * mean(one.cost_usd for one in late),
        twice=mean(one.attempts > 1 for one in late),
    )


def at(points: Sequence[Point], adequate: float) -> float | None:
    """What prompt-only routing costs at a share of adequate answers; `None` outside of what was run."""
    ordered = sorted(points, key=lambda one: one.adequate)
    for low, high in pairwise(ordered):
        if low.adequate <= adequate <= high.adequate:
            share = (adequate - low.adequate) / max(high.adequate - low.adequate, 1e-9)
            return low.usd_per_1k + share * (high.usd_per_1k - low.usd_per_1k)
    return None


def sweep(check: Strength | None, floors: Sequence[float], *, requests: int, seeds: int) -> list[Point]:
    """A point for each floor, the mean over seeds."""
    points = []
    for floor in floors:
        runs = [measured(play(setting(arrivals(requests, seed=s), check, floor, seed=s)).served) for s in range(seeds)]
        points.append(Point(*(mean(getattr(one, name) for one in runs) for name in Point.__struct_fields__)))
    return points


def main() -> None:
    """Run all checks and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    plain = sweep(None, (0.74, *FLOORS, 0.90), requests=given.requests, seeds=given.seeds)
    print(f"{'check':14}{'catch':>7}{'alarm':>7}{'floor':>7}{'adequate':>10}{'USD/1k':>9}{'twice':>7}{'ratio':>7}")
    for name, check in CHECKS.items():
        told = ("", "") if check is None else (f"{check.catch:.2f}", f"{check.alarm:.2f}")
        points = plain[1:-1] if check is None else sweep(check, FLOORS, requests=given.requests, seeds=given.seeds)
        for floor, one in zip(FLOORS, points, strict=True):
            alone = at(plain, one.adequate)
            ratio = "-" if alone is None else f"{one.usd_per_1k / alone:.2f}"
            figures = f"{floor:7.2f}{one.adequate:10.3f}{one.usd_per_1k:9.4f}{one.twice:7.3f}{ratio:>7}"
            print(f"{name:14}{told[0]:>7}{told[1]:>7}{figures}", flush=True)


if __name__ == "__main__":
    main()
