"""How many calls fit into an on-demand quota, and who is throttled? In virtual time against the AWS double's quota.

    python -m bench.account_quota

First AWS's own example ("How tokens are counted in Amazon Bedrock"): 2,000,000 tokens a minute and 500 tokens of input
hold about 31 calls at once where each reserves an answer of 64,000 tokens, about 1,333 where it reserves 1,000. 2,000
calls, of 500 tokens of input as the router counts, come at once to a router that knows the quota; the most that ran
at once is printed.

Then 40 senders who ask again and again for 15 minutes, which is more than a quota of 200,000 tokens a minute (answers
count five times) holds: throttles and tokens used, for a router that knows the quota, one that learns it, and one that
only goes by concurrency (it believes that the quota is endless).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bench.virtual_bedrock import Room, text
from router.domain.aws.terms import AwsTerms, CallQuota
from router.domain.deployment import Address, Deployment, DeploymentName, Kind, LimitKind, LimitTerms, Price, Tier
from router.domain.errors import RouterError
from router.domain.events import AttemptEnded
from router.domain.slo import RequestClass
from router.doubles.aws.models import Model, Quota, Speed
from router.sim.clock import run_virtual

ENDLESS = CallQuota(requests_per_min=1e9, tokens_per_min=1e12)
_SENDERS, _RAMP_S = 40, 60.0
_WORDS = 297
"""The router takes a prompt of so many for 500 tokens."""


def on_demand(quota: CallQuota) -> Deployment:
    """A deployment that leaves concurrency to the quota."""
    return Deployment(
        name=DeploymentName("on-demand"),
        group="m",
        model="m",
        tier=Tier.SMALL,
        kind=Kind.CONTINUOUS,
        address=Address("bedrock", "m", region="us-east-1", aws=AwsTerms(quota=quota)),
        price=Price(3.0, 15.0),
        limit=LimitTerms(LimitKind.FIXED, 10_000),
    )


def throttles(room: Room) -> int:
    """Calls that the double refused."""
    return sum(e.outcome.error_code == "throttled" for e in room.of(AttemptEnded))


async def burst(max_tokens: int, *, calls: int = 2000) -> Room:
    """AWS's example: everybody at once, to a router that knows the quota."""
    model = Model("m", speed=Speed(5.0, 0.0, 0.0), quota=Quota(tokens_per_min=2e6), answer_tokens=1)
    room = Room([model], (on_demand(CallQuota(tokens_per_min=2e6)),), RequestClass("all"))
    asked = [
        asyncio.ensure_future(room.ask([("user", text("question", _WORDS))], max_tokens=max_tokens))
        for i in range(calls)
    ]
    await asyncio.sleep(0.05)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    return room


async def steady(quota: CallQuota, *, minutes: float = 15.0, there: Quota | None = None) -> Room:
    """More demand than there is quota."""
    there = there or Quota(tokens_per_min=2e5, output_burndown=5.0)
    model = Model("m", speed=Speed(0.5, 0.0, 0.01), quota=there, answer_tokens=60)
    room = Room([model], (on_demand(quota),), RequestClass("all"))

    async def sender(number: int) -> None:
        await asyncio.sleep(_RAMP_S * number / _SENDERS)
        count = 0
        while room.now() < 60.0 * minutes:
            count += 1
            with suppress(RouterError):
                await room.ask([("user", text(f"{number} {count}", 300))], max_tokens=2000)

    await asyncio.gather(*(sender(i) for i in range(_SENDERS)))
    return room


def used_per_min(room: Room, burndown: float = 5.0) -> float:
    """Tokens of the quota that calls have used a minute."""
    return sum(b.input_tokens + burndown * b.output_tokens for b in room.world.bills) / room.now() * 60.0


def main() -> None:
    """Print both."""
    print("max_tokens   at once   throttled")
    for max_tokens in (64_000, 8_000, 1_000):
        room = run_virtual(burst(max_tokens))
        print(f"{max_tokens:10d}   {room.backend.most:7d}   {throttles(room):9d}", flush=True)
    print("\nquota           answered   throttled   tokens/min used")
    for name, quota in (
        ("known", CallQuota(tokens_per_min=2e5, output_burndown=5.0)),
        ("learned", CallQuota(output_burndown=5.0)),
        ("not looked at", ENDLESS),
    ):
        room = run_virtual(steady(quota))
        print(f"{name:<15} {len(room.world.bills):8d}   {throttles(room):9d}   {used_per_min(room):15.0f}", flush=True)


if __name__ == "__main__":
    main()
