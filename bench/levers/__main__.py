"""What is each lever of AWS worth, end to end?

One row per lever: what is claimed for it, what the AWS double was set to, what the router gained. A whole router (HTTP
door, controller, backends on the real SDK with signed requests) and the double are on loopback in one process and in
real seconds; an HTTP client measures. So a gain is never more than the double was set to, and what is missing of it is
the router's share. `reserved-quota` and `batch-lane` would take minutes and hours, and run on a clock that is moved:
their benchmarks, `bench.account_quota` and `bench.batch_lane`, have more to say, as has `bench.prompt_cache` of
affinity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.levers.answers import shorter_answers, streaming
from bench.levers.kept_warm import prompt_cache, provisioned
from bench.levers.nightly import batch_lane
from bench.levers.quota import max_tokens, reserved_quota
from bench.levers.row import Row
from bench.levers.subqueries import subqueries
from bench.levers.tiers import model_tier, optimized_latency
from bench.levers.variants import variants

LEVERS: dict[str, Callable[[], Coroutine[Any, Any, Row]]] = {
    "streaming": streaming,
    "model-tier": model_tier,
    "max-tokens": max_tokens,
    "reserved-quota": reserved_quota,
    "provisioned": provisioned,
    "optimized-latency": optimized_latency,
    "prompt-cache": prompt_cache,
    "subqueries": subqueries,
    "batch-lane": batch_lane,
    "variants": variants,
    "shorter-answers": shorter_answers,
}
COMMAND = "python -m bench.levers"


def asked() -> argparse.Namespace:
    """`rows` and `json`."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description=__doc__,
        epilog=f"{COMMAND} --rows streaming subqueries --json levers.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    among = ", ".join(LEVERS)
    parser.add_argument("--rows", nargs="+", metavar="LEVER", choices=LEVERS, default=list(LEVERS), help=among)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows and their figures here as well")
    return parser.parse_args()


def measured(name: str) -> dict[str, Any]:
    """A row as it is kept, printed as soon as it is there."""
    began = time.perf_counter()
    row = asyncio.run(LEVERS[name]())
    print(f"| {name} | {row.claimed} | {row.double} | {row.gained} |", flush=True)
    took_s, command = round(time.perf_counter() - began, 1), f"{COMMAND} --rows {name}"
    return {"lever": name, **row._asdict(), "command": command, "took_s": took_s}


def main() -> None:
    """One table, in Markdown."""
    options = asked()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "bench"
    print("| lever | claimed | the double was set to | the router gained |\n|---|---|---|---|", flush=True)
    rows = [measured(name) for name in options.rows]
    print(f"\nEach row: `{COMMAND} --rows LEVER`; together {sum(row['took_s'] for row in rows):.0f} s.")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
