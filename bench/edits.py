"""Does a policy that is edited all the time cost a request, a mixed decision, or memory? `python -m bench.edits`

A router in a process of its own, an upstream double, and steady HTTP traffic of two classes. Meanwhile the policy
directory is edited, by the swap of a mounted config map, by rename and in place, every third time with a mistake, and a
mounted key is rotated. Each good edit changes coupled values: number k stands in the model that the fleet asks the
upstream for and in two parameters of the class `chat` (one swap of two files), number j in two parameters of the class
`code` (one file). So every call that arrives upstream tells the snapshot it was decided under, and must tell the same
k and j as the digest that the router gives with the answer.

    python -m bench.edits                                  a minute, 100 edits, 200 requests/s
    python -m bench.edits --seconds 10 --edits 20 --per-s 50
    python -m bench.edits --trace                          tracemalloc in the router, which slows it down
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp

from bench.edited_directory import Directory
from bench.http_path import run, wait_until_ready
from bench.ports import free_port
from router.doubles.openai_answers import Call, Script, words
from router.doubles.openai_server import OpenAIServer
from router.policy.policy import Policy
from router.runtime.reload import load_directory

STARTED = ("Policy", "Admission", "Table", "Member", "TrainedEstimator")
"""What an edit makes anew in the router, and what must be gone again once it is replaced."""
PATIENCE_S = 60.0


class Arrival(NamedTuple):
    """What one upstream call carried."""

    attempt: str
    model: str
    tokens: int
    temperature: float
    key: str


class Arrivals(deque[Call]):
    """In the place of the double's record: keeps figures only, of all calls."""

    def __init__(self) -> None:
        super().__init__(maxlen=1)
        self.all: list[Arrival] = []

    def append(self, call: Call) -> None:
        body, headers = call.body, call.headers
        self.all.append(
            Arrival(
                headers["x-request-id"],
                body["model"],
                body.get("max_tokens", 0),
                body.get("temperature", -1.0),
                headers.get("authorization", ""),
            )
        )


@dataclass
class Findings:
    """What came of it. An answer is (decision id, class, policy digest)."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)


async def ask(session: aiohttp.ClientSession, url: str, number: int, found: Findings) -> None:
    """One request, every fourth as a stream."""
    name = ("chat", "code")[number % 2]
    body = {"model": name, "stream": number % 4 == 0, "messages": [{"role": "user", "content": f"say {number}"}]}
    found.sent += 1
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            text = await response.read()
            whole = text.rstrip().endswith(b"data: [DONE]") if body["stream"] else b'"choices"' in text
            if response.status != 200 or not whole:
                found.failed.append(f"{response.status}: {text[-200:]!r}")
                return
            headers = response.headers
            found.answers.append((headers["x-router-decision-id"], name, headers["x-router-policy"]))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        found.failed.append(repr(error))


async def traffic(url: str, seconds: float, per_s: float, found: Findings) -> None:
    """Open loop: requests leave when they are due, whatever the router does."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        begun = time.monotonic()
        for number in range(int(seconds * per_s)):
            await asyncio.sleep(max(begun + number / per_s - time.monotonic(), 0.0))
            group.create_task(ask(session, url, number, found))


async def disturb(directory: Directory, edits: int, seconds: float, history: Path) -> int:
    """The edits at even steps, but the first mistake stands until it is refused; returns how many were good."""
    good, begun = 0, time.monotonic()
    for number, is_good in enumerate(directory.edits(edits), 1):
        if number - good == 1 and not is_good:
            await refusal(history)
        good += is_good
        await asyncio.sleep(max(begun + number * seconds / edits - time.monotonic(), 0.0))
    return good


async def refusal(history: Path) -> None:
    """Wait until the router's history has a refused edit, or for a minute."""
    until = time.monotonic() + PATIENCE_S
    while not (history.exists() and '"refused"' in history.read_text()) and time.monotonic() < until:
        await asyncio.sleep(0.05)


class Router:
    """The router's process; `weigh` has it collect its garbage and say what it holds."""

    def __init__(self, child: subprocess.Popen[str], url: str) -> None:
        self._child, self.url = child, url

    async def weigh(self) -> dict[str, Any]:
        """Resident and traced bytes, and live objects of the kinds that a policy is made of."""
        assert self._child.stdout is not None
        self._child.send_signal(signal.SIGUSR1)
        read: dict[str, Any] = json.loads(await asyncio.to_thread(self._child.stdout.readline))
        return read

    async def ready(self) -> str:
        """What /readyz says."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as page:
            return str((await page.json())["detail"])


@asynccontextmanager
async def router(folder: Path, policies: Path, *, trace: bool) -> Any:
    """A router over these policies for the length of a block."""
    port = free_port()
    environment = {
        **os.environ,
        "ROUTER_HTTP__PORT": str(port),
        "ROUTER_POLICIES": str(policies),
        "ROUTER_STATE_DIR": str(folder / "state"),
        "ROUTER_MQTT__URL": "",
        "ROUTER_LOG__LEVEL": "error",
        "PYTHONTRACEMALLOC": "1" if trace else "",
    }
    command = [sys.executable, "-m", "bench.edits", "--as-router"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as child,
    ):
        try:
            await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{port}", child)
            yield Router(child, f"http://127.0.0.1:{port}")
        finally:
            child.terminate()
            await asyncio.to_thread(child.wait, 60)


async def soak(
    *, seconds: float, edits: int, per_s: float, warm_up_s: float, trace: bool = False, seed: int = 1
) -> dict[str, Any]:
    """Run it: traffic alone, traffic with edits, and traffic alone again, which is what the memory is held against."""
    arrivals, found = Arrivals(), Findings()
    upstream = OpenAIServer(Script(answer=words(5), first_token_s=0.05, calls=arrivals))
    await upstream.start()
    with tempfile.TemporaryDirectory(prefix="edits-") as name:
        folder = Path(name)
        history = folder / "state" / "history.jsonl"
        directory = Directory(folder, upstream.url, Random(seed))
        async with router(folder, directory.path, trace=trace) as routed:
            await traffic(routed.url, warm_up_s, per_s, found)
            before = await routed.weigh()
            good, _ = await asyncio.gather(
                disturb(directory, edits, seconds, history), traffic(routed.url, seconds, per_s, found)
            )
            settled = await settle(routed, directory)
            after = await routed.weigh()
            await traffic(routed.url, warm_up_s, per_s, found)
            last = await routed.weigh()
        await upstream.stop()
        entries = [json.loads(line) for line in history.read_text().splitlines()]
    told = [entry.get("state") for entry in entries if entry["what"] == "policy"]
    return {
        "requests": found.sent,
        "failed": len(found.failed),
        "first_failures": found.failed[:3],
        "edits": edits,
        "good_edits": good,
        "applied": told.count("applied"),
        "refused": told.count("refused"),
        **mixtures(directory, arrivals.all, found.answers),
        "keys_seen": len({arrival.key for arrival in arrivals.all}),
        "last_edit_in_force": settled,
        "memory": {"before": before, "after_edits": after, "after_as_much_without": last},
    }


async def settle(routed: Router, directory: Directory, patience_s: float = PATIENCE_S) -> bool:
    """Whether the last edit comes into force."""
    digest = next(d for d, state in directory.digests.items() if state == directory.state)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if await routed.ready() == f"policy {digest}":
            return True
        await asyncio.sleep(0.1)
    return False


def mixtures(directory: Directory, arrivals: list[Arrival], answers: list[tuple[str, str, str]]) -> dict[str, int]:
    """How many answers name a digest that never was, or one that says other numbers than the call upstream carried."""
    by_decision = {arrival.attempt.rpartition(".")[0]: arrival for arrival in arrivals}
    unknown = mixed = wrong_key = 0
    for decision, name, digest in answers:
        state, arrival = directory.digests.get(digest), by_decision[decision]
        if state is None:
            unknown += 1
            continue
        number = state.k if name == "chat" else state.j
        carried = (arrival.model, arrival.tokens, arrival.temperature)
        mixed += carried != (f"m-{state.k}", 1000 + number, number / 1000)
        wrong_key += arrival.key.removeprefix("Bearer ") not in directory.keys
    digests = len({digest for _, _, digest in answers})
    return {"digests_seen": digests, "unknown_digest": unknown, "mixed": mixed, "wrong_key": wrong_key}


def weigh() -> dict[str, Any]:
    """Of this process: what is left once the garbage is gone."""
    gc.unfreeze()
    for _ in range(3):
        gc.collect()
    kinds = [type(thing).__name__ for thing in gc.get_objects()]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else None
    return {"rss_mb": round(resident / 1e6, 2), "traced_mb": traced and round(traced / 1e6, 3)} | {
        kind: kinds.count(kind) for kind in STARTED
    }


def as_router() -> None:
    """The router itself, which weighs itself at SIGUSR1."""
    from router.cli.serve import run as serve
    from router.settings import load_settings
    from router.wiring import House

    settings = load_settings(None)
    policy: Policy = load_directory(settings.policies)
    house = House(settings, policy)
    del policy

    def ready() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(weigh()), flush=True))

    inner = house.run
    house.run = lambda _=None: inner(ready)  # type: ignore[method-assign,assignment]
    serve(house)


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="with edits")
    parser.add_argument("--warm-up-s", type=float, default=30.0, help="traffic alone, before and again after")
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--per-s", type=float, default=200.0, help="requests a second")
    parser.add_argument("--trace", action="store_true", help="tracemalloc in the router")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--as-router", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_router:
        as_router()
        return
    found = run(
        soak(
            seconds=args.seconds,
            edits=args.edits,
            per_s=args.per_s,
            warm_up_s=args.warm_up_s,
            trace=args.trace,
            seed=args.seed,
        )
    )
    for name, value in found.items():
        print(f"{name:20} {value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), "utf-8")
    if found["failed"] or found["unknown_digest"] or found["mixed"] or found["wrong_key"]:
        raise SystemExit("a request failed or was decided under a mixed snapshot")


if __name__ == "__main__":
    main()
