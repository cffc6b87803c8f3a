"""What does prompt caching gain? Conversations in virtual time against the AWS double's cache, speed and bill.

    python -m bench.prompt_cache [--minutes 20] [--per-minute 6] [--turns 6] [--system 2000]

Two regions serve one model, each with a cache of its own. Conversations over one long system prompt arrive; a turn adds
100 words and is answered with 80, and the next comes 10 to 60 s later. The same traffic is given to three routers:

* no cache points: the deployments have no `cache`;
* points, no affinity: cache points are placed, but turns go to the regions in turn;
* the router: points, and the decision weighs what is warm where.

Printed: dollars as the router booked them and as the double billed them, the share of the input that was read from a
cache, and the time to first token. The double needs 300 ms, and 0.2 ms for each input token that is not read.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from statistics import mean, median

from bench.virtual_bedrock import Room, text
from router.domain.aws.terms import AwsTerms, CacheTerms, CallQuota
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, LimitKind, LimitTerms, Price, Tier
from router.domain.events import AttemptEnded, RequestEnded
from router.domain.slo import Indicator, Objective, Objectives, RequestClass
from router.doubles.aws.models import Model, Prices, Speed
from router.routing.pickers import RoundRobin
from router.routing.profile import Profile, baseline, standard
from router.sim.clock import run_virtual

PRICE = Price(3.0, 15.0, cache_read_usd_per_mtok=0.3, cache_write_usd_per_mtok=3.75)
MODEL = Model("m", speed=Speed(0.3, 0.0002, 0.01), prices=Prices(3.0, 15.0), answer_tokens=80)
PROMISE = RequestClass("chat", objectives=Objectives(ttft=Objective(Indicator.TTFT, 1.5)))
QUESTION, ANSWER = 100, 80


def region(number: int, cache: CacheTerms | None, *, limit: int = 500) -> Deployment:
    """One of the regions that serve the model."""
    terms = AwsTerms(cache=cache, quota=CallQuota(tokens_per_min=1e8))
    return Deployment(
        name=DeploymentName(f"region-{number}"),
        group="m",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock", "m", region=f"us-east-{number}", aws=terms),
        price=PRICE,
        limit=LimitTerms(LimitKind.FIXED, limit),
    )


async def converse(room: Room, name: str, turns: int, system: int, pause_s: Callable[[], float]) -> None:
    """One conversation, turn by turn."""
    said = [("system", text("system", system))]
    for number in range(turns):
        said.append(("user", text(f"{name} question {number}", QUESTION)))
        await room.ask(said, max_tokens=200)
        said.append(("assistant", text(f"{name} answer {number}", ANSWER)))
        await asyncio.sleep(pause_s())


async def traffic(options: argparse.Namespace, cache: CacheTerms | None, profile: Profile) -> Room:
    """All conversations of a run."""
    room = Room([MODEL], (region(1, cache), region(2, cache)), PROMISE, profile=profile)
    rng, now = Random(options.seed), 0.0
    talks: list[Coroutine[None, None, None]] = []

    async def talk(number: int, at_s: float) -> None:
        own = Random(f"{options.seed}/{number}")
        await asyncio.sleep(at_s)
        await converse(room, f"c{number}", options.turns, options.system, lambda: own.uniform(10.0, 60.0))

    while now < 60.0 * options.minutes:
        talks.append(talk(len(talks), now))
        now += rng.expovariate(options.per_minute / 60.0)
    await asyncio.gather(*talks)
    return room


def _row(name: str, room: Room) -> str:
    ended = [e for e in room.of(RequestEnded) if e.ttft_s is not None]
    calls = [e.outcome for e in room.of(AttemptEnded)]
    ttft = sorted(e.ttft_s for e in ended if e.ttft_s is not None)
    read = sum(c.cached_tokens for c in calls) / sum(c.input_tokens for c in calls)
    booked, billed = sum(e.cost_usd for e in ended), sum(b.usd for b in room.world.bills)
    times = f"{1e3 * mean(ttft):6.0f} {1e3 * median(ttft):6.0f} {1e3 * ttft[int(0.99 * len(ttft))]:6.0f}"
    return f"{name:<20} {len(ended):6d} {booked:8.4f} {billed:8.4f} {100.0 * read:6.1f} % {times}"


def main() -> None:
    """Run the three routers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--per-minute", type=float, default=6.0, help="conversations that begin in a minute")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--system", type=int, default=2000, help="words of the system prompt")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'':<20} {'calls':>6} {'booked $':>8} {'billed $':>8} {'read':>8} {'TTFT ms: mean, p50, p99':>20}")
    for name, cache, profile in (
        ("no cache points", None, standard()),
        ("points, no affinity", CacheTerms(), baseline(RoundRobin())),
        ("the router", CacheTerms(), standard()),
    ):
        print(_row(name, run_virtual(traffic(options, cache, profile))), flush=True)


if __name__ == "__main__":
    main()
