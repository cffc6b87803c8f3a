"""What the router adds to an HTTP call: `python -m bench.http_path`. Ratios travel, absolute figures do not.

In one run, against the same trivial upstream (the OpenAI double, in a process of its own): calls made directly and
calls through `router serve`. The router has core 0 to itself; upstream and load share core 1.

    python -m bench.http_path                                 starts `router serve` with a policy of 4 deployments
    python -m bench.http_path --url http://127.0.0.1:8080     measures a router that runs already
    python -m bench.http_path --seconds 5 --json out.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import Tally, drive, post
from bench.ports import free_port
from router.doubles.openai_answers import Script, words
from router.doubles.openai_server import OpenAIServer

ROUTER_CORE, LOAD_CORE = 0, 1
PIECES = 50
READY_S = 120.0
PROMPT = "The committee met on Tuesday to talk about the budget of the coming year and what may be left out of it. "
DEPLOYMENT = """
  - name: bench-{number}
    model: bench
    tier: small
    backend: openai_http
    url: {url}
    price_usd_per_mtok: {{input: 0.1, output: 0.1}}
    max_in_flight: 512
"""
CLASS = """
class:
  name: default
  deadline: 1m
"""


def policy(url: str, deployments: int) -> str:
    """A policy of so many deployments, all of them the upstream."""
    copies = "".join(DEPLOYMENT.format(number=number, url=url) for number in range(deployments))
    return f"deployments:{copies}{CLASS}"


def chat(*, stream: bool) -> bytes:
    """A chat request of about 2.1 KB."""
    said = [{"role": "system", "content": PROMPT * 5}, {"role": "user", "content": PROMPT * 14}]
    fields: dict[str, Any] = {"model": "auto", "messages": said, "temperature": 0.2, "max_tokens": 100}
    return json.dumps({**fields, "stream": True} if stream else fields).encode()


def pin(core: int) -> None:
    """Stay on one core where the system can do that; children inherit it."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


def cpu_s(pid: int) -> float | None:
    """CPU seconds that a process has used, where /proc tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(core: int, command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A child on that core for the length of a block."""
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    pin(core)
    environ = {**os.environ, **environment}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as child:
        if here:
            os.sched_setaffinity(0, here)
        try:
            yield child
        finally:
            child.terminate()


@contextmanager
def upstream(gap_s: float | None) -> Iterator[str]:
    """The double in a process of its own; its base URL."""
    command = [sys.executable, "-m", "bench.http_path", "--as-upstream"]
    if gap_s is not None:
        command += ["--gap-s", str(gap_s)]
    with process(LOAD_CORE, command) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()


@contextmanager
def router(command: list[str], upstream_url: str, deployments: int) -> Iterator[tuple[str, int]]:
    """`router serve` with a policy over the upstream; its base URL and process id."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        policies = Path(folder, "policies")
        policies.mkdir()
        policies.joinpath("bench.yaml").write_text(policy(upstream_url, deployments), "utf-8")
        environment = {
            "ROUTER_MQTT__URL": "",
            "ROUTER_HTTP__PORT": str(port),
            "ROUTER_POLICIES": str(policies),
            "ROUTER_STATE_DIR": str(Path(folder, "state")),
            "ROUTER_LOG__LEVEL": "warning",
        }
        with process(ROUTER_CORE, command, **environment) as child:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, child)
            yield url, child.pid


def wait_until_ready(url: str, child: subprocess.Popen[str]) -> None:
    """Ask /readyz until it says yes, for two minutes: on a busy machine a start takes a while."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise SystemExit(f"the router ended with status {child.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the router is not ready after {READY_S:.0f} s")


async def measure(base: str, *, stream: bool, connections: int, seconds: float) -> Tally:
    """One run against one base URL."""
    parts = urlsplit(base)
    assert parts.hostname is not None
    assert parts.port is not None
    path = parts.path.removesuffix("/v1") + "/v1/chat/completions"
    request = post(path, parts.netloc, chat(stream=stream))
    return await drive((parts.hostname, parts.port), request, connections=connections, seconds=seconds)


async def compare(direct: str, through: str, pid: int | None, args: argparse.Namespace) -> dict[str, Any]:
    """All figures, direct and through the router by turns."""
    await measure(through, stream=False, connections=4, seconds=1.0)
    results: dict[str, Any] = {}
    for name, stream, connections in (
        ("json_c1", False, 1),
        (f"json_c{args.connections}", False, args.connections),
        (f"sse{PIECES}_c1", True, 1),
        (f"sse{PIECES}_c{args.connections}", True, args.connections),
    ):
        bare = await measure(direct, stream=stream, connections=connections, seconds=args.seconds)
        before = cpu_s(pid) if pid is not None else None
        routed = await measure(through, stream=stream, connections=connections, seconds=args.seconds)
        after = cpu_s(pid) if pid is not None else None
        results[name] = figures(bare, routed)
        if before is not None and after is not None and routed.latencies_s:
            results[name]["router_cpu_s_per_1000"] = round((after - before) / len(routed.latencies_s) * 1000, 4)
    return results


def figures(bare: Tally, routed: Tally) -> dict[str, Any]:
    """Rates, and what the router adds to the median and the 99th percentile."""
    if not bare.latencies_s or not routed.latencies_s:
        return {"failed_direct": bare.failed, "failed": routed.failed}
    return {
        "direct_per_s": round(bare.per_second),
        "per_s": round(routed.per_second),
        "added_p50_ms": round(routed.quantile_ms(0.5) - bare.quantile_ms(0.5), 3),
        "added_p99_ms": round(routed.quantile_ms(0.99) - bare.quantile_ms(0.99), 3),
        "p50_ms": round(routed.quantile_ms(0.5), 3),
        "p99_ms": round(routed.quantile_ms(0.99), 3),
        "failed": routed.failed,
    }


async def serve_upstream(gap_s: float | None) -> None:
    """Answer until killed."""
    server = OpenAIServer(Script(answer=words(PIECES), gap_s=gap_s, keeps_calls=False))
    await server.start()
    print(server.url, flush=True)
    await asyncio.Event().wait()


def run(coroutine: Any) -> Any:
    """Run on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--connections", type=int, default=64, help="at the loaded points")
    parser.add_argument("--deployments", type=int, default=4, help="in the policy that is written")
    parser.add_argument("--url", help="a router that runs already (its policy must lead to an upstream of its own)")
    parser.add_argument("--command", default=f"{sys.executable} -m router serve", help="how to start the router")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--as-upstream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--gap-s", type=float, help="between upstream chunks; absent: all in one write, 0: a write each"
    )
    args = parser.parse_args()
    if args.as_upstream:
        run(serve_upstream(args.gap_s))
        return
    with upstream(args.gap_s) as direct:
        pin(LOAD_CORE)
        if args.url:
            results = run(compare(direct, args.url, None, args))
        else:
            with router(args.command.split(), direct, args.deployments) as (through, pid):
                results = run(compare(direct, through, pid, args))
    for name, row in results.items():
        print(f"{name:12s}", "  ".join(f"{key}={value}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    main()
