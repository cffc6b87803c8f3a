"""What is the newsvendor's answer worth on recorded demand, and do minutes tell the truth?

    python -m bench.capacity FOLDER [--prices 0.3 0.5 0.7] [--units 40]

FOLDER holds workload files (`*.csv.gz`). A unit is sized so that `--units` of them carry the mean demand in its mean
mix, and is priced at each `--prices` of what it serves on demand in full use. For every trace and price: cost against
all on demand with the best number of units on minutes (`best`), with the number chosen on the other half of the record
(`halves`: five-minute stretches by turns), with units for the 95th percentile (`p95`) and for the peak (`peak`). Then
the same calls one by one through the token buckets that the router keeps (`calls`), at the best number: where that is
far from `best`, minutes do not tell the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from router.control.capacity import Quota
from router.control.newsvendor import Need, best_units, need, taken_usd
from router.domain.deployment import Price, TokenQuota
from router.sim.capacity.calls import read_trace

PRICE = Price(1.0, 1.0)
STRETCH = 5


def minutes_of(calls):
    """Tokens in and out of every whole minute."""
    at = (calls.at_s // 60).astype(int)
    count = int(at[-1])
    return [np.bincount(at, weights=tokens)[:count] for tokens in (calls.input_tokens, calls.output_tokens)]


def cost_ratio(demand, units, unit_usd):
    """Against all on demand."""
    return (units * unit_usd * len(demand.usd) + (demand.usd - taken_usd(demand, units)).sum()) / demand.usd.sum()


def halves(demand, unit_usd):
    """Each stretch of minutes costs what the stretches of the other parity would have chosen."""
    parity = np.arange(len(demand.usd)) // STRETCH % 2
    sides = [Need(demand.units[parity == p], demand.usd[parity == p]) for p in (0, 1)]
    cost = [cost_ratio(sides[p], best_units(sides[1 - p], unit_usd), unit_usd) * sides[p].usd.sum() for p in (0, 1)]
    return sum(cost) / demand.usd.sum()


def one_by_one(calls, unit, units, unit_usd, count):
    """Calls through full buckets of `units`, each to them where it fits now, else on demand."""
    whole = calls.at_s < count * 60.0
    rows = zip(
        *(column[whole].tolist() for column in (calls.at_s, calls.input_tokens, calls.output_tokens)), strict=True
    )
    held = Quota(TokenQuota(unit.input_tokens_per_min * units, unit.output_tokens_per_min * units))
    spilled = total = 0.0
    for at, given, made in rows:
        usd = PRICE.cost_usd(given, made)
        total += usd
        if held.has_room(given, made, now=at):
            held.reserve(given, made, now=at)
        else:
            spilled += usd
    return (units * unit_usd * count + spilled) / total


def main():
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prices", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--units", type=float, default=40.0)
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.csv.gz"))
    if not files:
        parser.error(f"{args.folder}: no *.csv.gz file")
    print(f"{'trace':28} {'price':>5} {'units':>6} {'best':>6} {'halves':>6} {'p95':>6} {'peak':>6} {'calls':>6}")
    for path in files:
        calls = read_trace(path, model="any", starts_s=0.0).calls
        given, made = minutes_of(calls)
        unit = TokenQuota(given.mean() / args.units, made.mean() / args.units)
        demand = need(given, made, unit, PRICE)
        full_usd = demand.usd.sum() / demand.units.sum()
        for price in args.prices:
            unit_usd = price * full_usd
            units = best_units(demand, unit_usd)
            found = [
                cost_ratio(demand, units, unit_usd),
                halves(demand, unit_usd),
                cost_ratio(demand, float(np.percentile(demand.units, 95)), unit_usd),
                cost_ratio(demand, float(demand.units.max()), unit_usd),
                one_by_one(calls, unit, units, unit_usd, len(given)) if units else 1.0,
            ]
            name = path.name.removesuffix(".csv.gz")
            print(f"{name:28} {price:5.2f} {units:6.1f} " + " ".join(f"{ratio:6.3f}" for ratio in found))


if __name__ == "__main__":
    main()
