"""What does reserved capacity save on a recorded day, routed request by request?

    python -m bench.provisioned TRACE [--from-hour 8] [--hours 4] [--load 1] [--prices 0.3 0.5 0.7] [--share 0.6]

TRACE is a workload file (`*.csv.gz`). One large model on demand (USD .99 per million tokens, as many servers as it
takes) and the same model reserved: a unit carries a tenth of the mean demand of those hours, in its mean mix, and costs
`--prices` of what it serves on demand in full use. Reserved are the units that `--share` of the mean demand takes, or,
without `--share`, the newsvendor's best number on the minutes of those hours. For each: cost against all on demand,
share of the tokens used, share of the hours wasted, share of requests in time (TTFT 500 ms, TPOT 50 ms), how often
spilling began or ended, and calls throttled; the same with a router that takes what is reserved whenever its buckets
hold it, at no price; and the bound that the newsvendor's minutes give. One server stands behind what is reserved, so
that its latency bounds it too: a trace whose reserved part is more than one server carries stays above the bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from router.backends.simulated_fleet import deployments, read_fleet
from router.complexity.estimator import Scored
from router.control.newsvendor import best_units, need, taken_usd
from router.domain.deployment import Price, Tier, TokenQuota
from router.domain.events import AttemptEnded
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.policy.policy import Policy
from router.sim.clock import run_virtual
from router.sim.run import Setting, World
from router.sim.workload import Workload, read_workload

PAID = Price(0.99, 0.99)
STEP = "{base: 16.4034, per_sequence: 0.080096, per_context_token: 0.000023, per_prefill_token: 0.0650}"
PROMISE = Objectives(ttft=Objective(Indicator.TTFT, 0.5), tpot=Objective(Indicator.TPOT, 0.05))
ON_DEMAND = f"""
deployments:
  - {{name: ondemand, model: m, tier: large, replicas: 6, price_usd_per_mtok: {{input: .99, output: .99}},
     step_ms: {STEP}}}
"""
RESERVED = """  - {{name: reserved, model: m, tier: large, kind: provisioned, hourly_usd: {usd},
     tokens_per_min: {{input: {taken}, output: {given}}}, step_ms: {step}}}
"""


class Sure:
    """One model, always adequate."""

    def estimate(self, request):
        return Scored(0.0, "chat", {"m": 1.0}, {Tier.SMALL: 1.0, Tier.LARGE: 1.0})


class Counting(World):
    """Counts throttled calls; `free` takes the bid price away."""

    def __init__(self, setting, free):
        self.throttled = 0
        super().__init__(setting, None, None)
        for member in self.controller.fleet.members.values():
            if free and member.quota is not None:
                member.quota.on_demand = Price(0.0, 0.0)

    def emit(self, event):
        self.throttled += isinstance(event, AttemptEnded) and event.outcome.error_code == "throttled"
        super().emit(event)


def played(workload, text, *, free=False):
    """USD, share in time, the report of what is reserved, calls throttled."""
    spec = read_fleet(text)
    policy = Policy("bench", (RequestClass("all", objectives=PROMISE),), deployments(spec))

    async def scene():
        world = Counting(Setting(workload, spec, policy, Sure()), free)
        lasted_s = await world.run()
        hourly = sum(d.price.hourly_usd for d in policy.deployments) * lasted_s / 3600.0
        usd = hourly + sum(one.cost_usd for one in world.served)
        in_time = sum(one.slo_met for one in world.served) / len(world.served)
        report = world.capacity.report(world.controller, now=lasted_s).get("reserved", {}).get("reserved")
        return usd, in_time, report, world.throttled, lasted_s

    return run_virtual(scene())


def minutes_of(rows, count):
    """Tokens in and out of each minute."""
    at = np.array([row.at_s for row in rows]) // 60.0
    columns = ([row.input_tokens for row in rows], [row.output_tokens for row in rows])
    return [np.bincount(at.astype(int), weights=column, minlength=count)[:count] for column in columns]


def main():
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--from-hour", type=float, default=8.0)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--prices", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--share", type=float, default=None)
    asked = parser.parse_args()
    start, seconds = asked.from_hour * 3600.0, asked.hours * 3600.0
    rows = (row for row in read_workload(asked.trace).arrivals if start <= row.at_s < start + seconds * asked.load)
    workload = Workload(tuple(replace(row, at_s=(row.at_s - start) / asked.load) for row in rows))
    rows, count = workload.arrivals, round(seconds / 60.0)
    taken, given = minutes_of(rows, count)
    unit = TokenQuota(float(taken.mean()) / 10.0, float(given.mean()) / 10.0)
    demand = need(taken, given, unit, PAID)
    base, in_time, _, _, _ = played(workload, ON_DEMAND)
    print(f"{asked.trace.name}: {len(rows):,} requests in {asked.hours:g} h")
    print(f"all on demand USD {base:.2f}, {in_time:.4f} in time")
    print(" price units   router   cost   used  wasted  in time  spills throttled")
    for ratio in asked.prices:
        unit_usd = ratio * float(demand.usd.sum() / demand.units.sum())
        units = round(best_units(demand, unit_usd) if asked.share is None else 10.0 * asked.share)
        minutes = (units * unit_usd * count + (demand.usd - taken_usd(demand, units)).sum()) / demand.usd.sum()
        print(f"{ratio:6.2f}{units:6d}{'minutes':>9}{minutes:7.3f}")
        if not units:
            continue
        text = ON_DEMAND + RESERVED.format(
            usd=units * unit_usd * 60.0,
            taken=round(units * unit.input_tokens_per_min),
            given=round(units * unit.output_tokens_per_min),
            step=STEP,
        )
        for name, free in (("priced", False), ("no price", True)):
            usd, in_time, report, throttled, lasted_s = played(workload, text, free=free)
            used, wasted = (
                max(report["input_ratio"], report["output_ratio"]),
                report["wasted_hours"] * 3600.0 / lasted_s,
            )
            print(
                f"{'':12}{name:>9}{usd / base:7.3f}{used:7.3f}{wasted:8.3f}{in_time:9.4f}{report['spill_changes']:8d}"
                f"{throttled:10d}"
            )


if __name__ == "__main__":
    main()
