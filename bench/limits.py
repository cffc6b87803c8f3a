"""How near is each kind of limit to the best fixed one? `python -m bench.limits WORKLOAD FLEET`

One server, four stretches of load and speed. Goodput is answers a second with TTFT <= 500 ms and mean TPOT <= 50 ms, by
when they arrived. For each stretch the best of a list of fixed limits in hindsight is the reference. After a change of
stretch a limit has settled at the first moment from which on, for 30 s, its goodput is within 5 % of the reference over
the same 30 s; and its number, when its mean over 30 s first is within 5 % of its mean until the end of the stretch.

Twice: with the limit alone (whoever finds no room within 0.1 s is refused, nothing is predicted, everything else goes
through), which is how limits are compared in the literature; and with the router's own admission in front.

    python -m bench.limits WORKLOAD FLEET                  everything: some ten minutes
    python -m bench.limits WORKLOAD FLEET --mode alone --kinds aimd --fixed 24,48 --draws 4

WORKLOAD is `limit_70b.csv.gz` (3.3, 11, 4 and 5.5 requests a second) and FLEET `limit_70b.yaml` (one 70B model on four
H100, 1.6x slower in the third stretch).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any, NamedTuple

from msgspec.structs import replace

from router.backends.simulated_fleet import FleetSpec, deployments, read_fleet
from router.complexity.registry import shipped_prior
from router.domain.decision import Candidate, Terms
from router.domain.deployment import LimitKind, LimitTerms
from router.domain.view import DeploymentView
from router.policy.policy import Policy
from router.routing.filters import has_room
from router.routing.need import Need
from router.routing.pickers import Best
from router.routing.profile import Profile
from router.runtime.reload import load_directory
from router.sim.oracle import ExactOracle
from router.sim.run import Setting, play
from router.sim.workload import Workload, read_workload

STRETCHES = ((0.0, 300.0), (300.0, 800.0), (800.0, 1200.0), (1200.0, 1700.0))
FIXED = (8, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 256)
KINDS = (LimitKind.STEP_MODEL, LimitKind.AIMD, LimitKind.GRADIENT)
PATIENCE_S = 0.1
WINDOW_S, NEAR, STEP_S = 30.0, 0.05, 1.0
POLICIES = Path(__file__).parent.parent / "policies" / "bench" / "degrade"


class Run(NamedTuple):
    """One limit on each draw: when the requests that met their objectives arrived, and the limit each second."""

    good_at_s: tuple[float, ...]
    limit: tuple[tuple[float, float], ...]
    draws: int

    def goodput(self, start_s: float, end_s: float) -> float:
        """Good answers a second to what arrived in this time, mean over the draws."""
        return sum(start_s <= at < end_s for at in self.good_at_s) / (end_s - start_s) / self.draws

    def level(self, start_s: float, end_s: float) -> float:
        """Mean limit in this time."""
        return mean(limit for at, limit in self.limit if start_s <= at < end_s)


def alike(views: Sequence[DeploymentView], need: Need) -> list[Candidate]:
    """Everything is worth serving: nothing predicted keeps a request out."""
    return [_worth_one(view) for view in views]


def _worth_one(view: DeploymentView) -> Candidate:
    terms = Terms(
        view.p_slo,
        view.p_adequate,
        view.ttft_s,
        view.tpot_s,
        view.e2e_s,
        view.output_tokens,
        view.cost_usd,
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
        view.p_adequate_low,
    )
    return Candidate(view.deployment.name, 1.0, terms, 0.0, view.spread, view.fallen)


def alone(_: ExactOracle) -> Profile:
    """The limit and nothing else."""
    return Profile("limit", (has_room,), alike, Best())


def limited(policy: Policy, terms: LimitTerms, *, mode: str) -> Policy:
    """The policy with this limit on every deployment; for `alone`, with nothing that is shed for another reason."""
    fleet = tuple(replace(d, limit=terms) for d in policy.deployments)
    if mode == "admission":
        return replace(policy, deployments=fleet)
    classes = tuple(replace(c, sheddable=False, floor=None) for c in policy.classes)
    return replace(policy, deployments=fleet, classes=classes, bounds=replace(policy.bounds, queue_wait_s=PATIENCE_S))


def draws(workload: Workload, count: int) -> list[Workload]:
    """The workload, and the same with its requests in another order within each stretch."""
    found = [workload]
    for seed in range(1, count):
        rng, arrivals = Random(seed), []
        for start, end in STRETCHES:
            rows = [row for row in workload.arrivals if start <= row.at_s < end]
            at = [row.at_s for row in rows]
            rng.shuffle(rows)
            arrivals += [replace(row, at_s=at_s) for row, at_s in zip(rows, at, strict=True)]
        found.append(Workload(tuple(arrivals)))
    return found


def run(workloads: Sequence[Workload], fleet: FleetSpec, policy: Policy, terms: LimitTerms, *, mode: str) -> Run:
    """Simulate one limit."""
    good: list[float] = []
    limit: list[tuple[float, float]] = []
    for workload in workloads:
        setting = Setting(workload, fleet, limited(policy, terms, mode=mode), shipped_prior().serving(()))
        played = play(setting, alone if mode == "alone" else None)
        by_deployment: Any = played.report["by_deployment"]
        over_time = next(iter(by_deployment.values()))["over_time"]
        good += [workload.arrivals[int(s.request_id)].at_s for s in played.served if s.slo_met]
        limit += zip(over_time["at_s"], over_time["limit"], strict=True)
    return Run(tuple(good), tuple(limit), len(workloads))


def best(fixed: Mapping[int, Run]) -> list[int]:
    """For each stretch the fixed limit with the most goodput."""
    return [max(fixed, key=lambda n: fixed[n].goodput(*stretch)) for stretch in STRETCHES]


def goodput_settled_s(one: Run, reference: Run, start_s: float, end_s: float) -> float | None:
    """Seconds from the start of a stretch until goodput is near the reference over the same `WINDOW_S`."""
    at = start_s
    while at + WINDOW_S <= end_s:
        if one.goodput(at, at + WINDOW_S) >= (1.0 - NEAR) * reference.goodput(at, at + WINDOW_S):
            return at - start_s
        at += STEP_S
    return None


def limit_settled_s(one: Run, start_s: float, end_s: float) -> float | None:
    """Seconds from the start of a stretch until the limit, over `WINDOW_S`, is near its level from then on."""
    at = start_s
    while at + WINDOW_S <= end_s:
        if abs(one.level(at, at + WINDOW_S) / one.level(at, end_s) - 1.0) <= NEAR:
            return at - start_s
        at += STEP_S
    return None


def line(name: str, one: Run, references: Sequence[Run]) -> str:
    """Goodput by stretch with its share of the reference, the whole, and the settling times."""
    cells, total, most = [], 0.0, 0.0
    for (start, end), reference in zip(STRETCHES, references, strict=True):
        own, other = one.goodput(start, end), reference.goodput(start, end)
        total, most = total + own * (end - start), most + other * (end - start)
        cells.append(f"{own:5.2f} {own / other:6.1%}")
    settled = [
        f"{_seconds(goodput_settled_s(one, reference, *stretch))}/{_seconds(limit_settled_s(one, *stretch))}"
        for stretch, reference in zip(STRETCHES, references, strict=True)
    ]
    return f"{name:11} {'   '.join(cells)}   whole {total / most:6.1%}   settled s {'  '.join(settled)}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def compare(
    workloads: Sequence[Workload], fleet: FleetSpec, policy: Policy, mode: str, args: argparse.Namespace
) -> None:
    """Print one table."""
    fixed = {}
    for n in (int(text) for text in args.fixed.split(",")):
        fixed[n] = run(workloads, fleet, policy, LimitTerms(LimitKind.FIXED, n), mode=mode)
        rates = "  ".join(f"{fixed[n].goodput(*stretch):5.2f}" for stretch in STRETCHES)
        print(f"{mode}, fixed {n:3}: {rates}", file=sys.stderr)
    chosen = best(fixed)
    references = [fixed[n] for n in chosen]
    rates = "   ".join(f"{r.goodput(*s):5.2f} ({n:3})" for r, s, n in zip(references, STRETCHES, chosen, strict=True))
    print(f"{mode}: goodput by stretch, share of the best fixed; settled: goodput/limit\n{'best fixed':11} {rates}")
    for kind in args.kinds.split(","):
        print(line(kind, run(workloads, fleet, policy, LimitTerms(LimitKind(kind)), mode=mode), references), flush=True)
    single = max(fixed, key=lambda n: sum(fixed[n].goodput(*s) * (s[1] - s[0]) for s in STRETCHES))
    print(line(f"fixed {single}", fixed[single], references), flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("fleet", type=Path)
    parser.add_argument("--policies", type=Path, default=POLICIES)
    parser.add_argument("--mode", choices=("alone", "admission", "both"), default="both")
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated; all by default")
    parser.add_argument("--fixed", default=",".join(map(str, FIXED)), help="fixed limits to find the best of")
    parser.add_argument("--draws", type=int, default=1, help="also with the requests in other orders: less noise")
    args = parser.parse_args()
    fleet = read_fleet(args.fleet.read_text(encoding="utf-8"), str(args.fleet))
    workloads = draws(read_workload(args.workload), args.draws)
    policy = load_directory(args.policies, deployments=deployments(fleet))
    for mode in ("alone", "admission") if args.mode == "both" else (args.mode,):
        compare(workloads, fleet, policy, mode, args)


if __name__ == "__main__":
    main()
