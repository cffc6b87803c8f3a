"""How near does the router come to a policy that knows more? `python -m bench.control TRACES FLEETS`

Recorded traces over one small and one large simulated server, TTFT 500 ms and mean TPOT 50 ms. Truth and estimates
are drawn anew for each label seed: a share of the answers of the small model is adequate, the large model's all are,
and a calibrated estimate tells them apart with the given AUC. The reference is the best in hindsight of some 500
two-threshold policies that see exact server state and output lengths, as measured on one label seed.

    python -m bench.control TRACES FLEETS                  all rows, five label seeds
    python -m bench.control TRACES FLEETS --only floor --seeds 1

TRACES holds `azure2023_conv_h1.csv.gz` and `azure2023_code_h1.csv.gz` (Azure's LLM inference traces of 2023, CC-BY-4.0)
and FLEETS `small_large.yaml`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import NormalDist, mean, stdev
from typing import Any, NamedTuple

from msgspec.structs import replace

from router.backends.simulated_fleet import Background, FleetSpec, deployments, read_fleet
from router.complexity.registry import shipped_prior
from router.runtime.reload import load_directory
from router.sim.recorded import RecordedEstimator
from router.sim.run import Setting, simulate
from router.sim.workload import Arrival, Workload

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-70b"
CONV, CODE = "azure2023_conv_h1", "azure2023_code_h1"
SMALL_ADEQUATE, AUC = 0.6, 0.75
HIDDEN = {"small": 5.8, "large": 2.5}
"""Requests a second of others on each server: half of the conversation trace at three times its rate."""
HIDDEN_TOKENS = {"input_tokens": 1150, "output_tokens": 210}
STALE_S = 5.0


class Row(NamedTuple):
    """One line of the table: a policy on a trace at a load, and what it is measured against."""

    name: str
    policy: str
    trace: str
    load: float
    reference: float | None = None
    lag_s: float | None = None
    """Age of the servers' own telemetry, where half of the load is hidden."""


ROWS = (
    *(Row(f"floor x{x}", "floor", CONV, x, useful) for x, useful in enumerate((0.956, 0.850, 0.671, 0.546), start=1)),
    *(Row(f"degrade x{x}", "degrade", CONV, x, useful) for x, useful in enumerate((0.956, 0.869, 0.808, 0.727), 1)),
    Row("cost x1", "cost", CONV, 1.0),
    Row("floor code x1", "floor", CODE, 1.0, 0.634),
    Row("degrade code x1", "degrade", CODE, 1.0, 0.674),
    Row("hidden x3, exact", "degrade", CONV, 1.5, lag_s=0.0),
    Row("hidden x3, 5 s old", "degrade", CONV, 1.5, lag_s=STALE_S),
)


def labelled(trace: Path, seed: int) -> Workload:
    """A trace with truth and a recorded estimate. The score of an answer is normal around +-d/2 with `d` from the AUC
    (two normals of unit variance), and the estimate is the posterior given the score."""
    rng, apart = Random(seed), math.sqrt(2.0) * NormalDist().inv_cdf(AUC)
    prior = math.log(SMALL_ADEQUATE / (1.0 - SMALL_ADEQUATE))
    return Workload(tuple(_labelled(trace, rng, apart, prior)))


def _labelled(trace: Path, rng: Random, apart: float, prior: float) -> Iterator[Arrival]:
    with gzip.open(trace, "rt") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: float(row["arrival_s"]))
    for row in rows:
        is_adequate = rng.random() < SMALL_ADEQUATE
        score = rng.gauss(0.5 * apart if is_adequate else -0.5 * apart, 1.0)
        estimate = 1.0 / (1.0 + math.exp(-(prior + apart * score)))
        yield Arrival(
            at_s=float(row["arrival_s"]) - float(rows[0]["arrival_s"]),
            input_tokens=int(row["input_tokens"]),
            output_tokens=int(row["output_tokens"]),
            quality={SMALL: float(is_adequate), LARGE: 1.0},
            estimate={SMALL: estimate, LARGE: 1.0},
        )


def with_hidden_load(fleet: FleetSpec, lag_s: float) -> FleetSpec:
    """The same servers with requests of others on them, and telemetry that is `lag_s` old."""
    servers = [replace(d, background=Background(HIDDEN[d.name], **HIDDEN_TOKENS)) for d in fleet.deployments]
    return replace(fleet, deployments=servers, telemetry_lag_s=lag_s)


def run(row: Row, traces: Path, fleet: FleetSpec, policies: Path, seed: int) -> dict[str, Any]:
    """The `overall` of one simulation."""
    spec = fleet if row.lag_s is None else with_hidden_load(fleet, row.lag_s)
    workload = labelled(traces / f"{row.trace}.csv.gz", seed).over(load=row.load)
    policy = load_directory(policies / row.policy, deployments=deployments(spec))
    setting = Setting(workload, spec, policy, RecordedEstimator(workload, shipped_prior().serving(())), seed=seed)
    overall = simulate(setting)["overall"]
    assert isinstance(overall, dict)
    return overall


def spread(values: list[float]) -> str:
    """Mean and standard deviation over label seeds."""
    return f"{mean(values):.4f} +- {stdev(values) if len(values) > 1 else 0.0:.4f}"


def main() -> None:
    """Run the rows and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path)
    parser.add_argument("fleets", type=Path)
    parser.add_argument("--policies", type=Path, default=Path(__file__).parent.parent / "policies" / "bench")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    args = parser.parse_args()
    path = args.fleets / "small_large.yaml"
    fleet = read_fleet(path.read_text(encoding="utf-8"), str(path))
    exact: list[float] = []
    print(f"{'':20} {'useful':18} {'of reference':13} {'adequate of served':18} {'USD per 1,000':18}")
    for row in (row for row in ROWS if args.only in row.name):
        found = []
        for seed in range(args.seeds):
            print(f"{row.name}, label seed {seed}", file=sys.stderr)
            found.append(run(row, args.traces, fleet, args.policies, seed))
        useful = [one["useful"] for one in found]
        if row.lag_s == 0.0:
            exact = useful
        against = row.reference or (mean(exact) if row.lag_s else None)
        ratio = "-" if against is None else f"{mean(useful) / against:.3f}"
        adequate = spread([one["adequate_of_served"] for one in found])
        print(f"{row.name:20} {spread(useful)} {ratio:>13} {adequate} {spread([o['cost_per_1k_usd'] for o in found])}")


if __name__ == "__main__":
    main()
