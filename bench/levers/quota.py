"""More calls at once under a quota that reserves the longest answer."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench.account_quota import burst
from bench.levers.routed import HAIKU, HEAD, bedrock, priced, routed, wholes
from bench.levers.row import Row, ms
from router.doubles.aws.models import Model, Quota, Speed
from router.doubles.aws.world import World
from router.sim.clock import run_virtual


class Burst(NamedTuple):
    """What became of calls that came at once: seconds to the last answer, most calls at once in the double, refusals
    there, failures here, and how long one call takes alone."""

    took_s: float
    most: int
    throttled: int
    failed: int
    alone_s: float


async def _burst(parameters: str) -> Burst:
    """124 calls at once on a quota of 2 million tokens a minute."""
    quota = Quota(tokens_per_min=2_000_000)
    world = World({HAIKU: Model(HAIKU, speed=Speed(1.0, 0.0, 0.05), quota=quota, answer_tokens=20)})
    terms = ", aws: {quota: {tokens_per_min: 2000000, max_output_tokens: 64000}}"
    policy = HEAD + bedrock("haiku", HAIKU, terms) + priced(haiku=(0.8, 4)) + f"class: {{name: all{parameters}}}\n"
    async with routed(world, policy) as router:
        alone_s, calls, most = wholes(await router.many(2)), len(world.calls), 0
        began = time.perf_counter()
        asking = asyncio.gather(*(router.ask("Sum up: " + "word " * 500) for _ in range(124)))
        while not asking.done():
            most = max(most, world.serving)
            await asyncio.sleep(0.02)
        took_s, failed = time.perf_counter() - began, sum(answer.status != 200 for answer in await asking)
    return Burst(took_s, most, len(world.calls) - calls - (124 - failed), failed, alone_s)


async def max_tokens() -> Row:
    """Bedrock reserves an answer of `max_tokens`: a realistic one lets more calls run at once."""
    unset, bounded = await _burst(""), await _burst(", parameters: {max_tokens: 24}")

    def said(one: Burst) -> str:
        return f"{one.most} at once, all in {one.took_s:.1f} s, {one.throttled} throttles, {one.failed} failed"

    return Row(
        "headroom of 20 % over the expected answer: more calls at once, and no gain for one that stops by itself",
        "2 M tokens a minute, 64,000 reserved where unset; answers of 20 tokens in 2 s; 124 calls of 500 words at once",
        f"unset: {said(unset)}; max_tokens 24: {said(bounded)}; one call alone {ms(unset.alone_s)} and "
        f"{ms(bounded.alone_s)}",
        {
            f"{name}_{field}": value
            for name, one in (("unset", unset), ("bounded", bounded))
            for field, value in one._asdict().items()
        },
    )


async def reserved_quota() -> Row:
    """AWS's own example ("How tokens are counted in Amazon Bedrock"), in virtual time."""
    found = {}
    for max_tokens in (64_000, 1_000):
        found[max_tokens] = (await asyncio.to_thread(run_virtual, burst(max_tokens))).backend.most
    return Row(
        "31 calls at once where each reserves an answer of 64,000 tokens, 1,333 where it reserves 1,000",
        "2 M tokens a minute; 2,000 calls of 500 tokens at once, each 5 s long (virtual time)",
        f"{found[64_000]:,} at once with max_tokens 64,000, {found[1_000]:,} with 1,000",
        {f"at_once_{max_tokens}": most for max_tokens, most in found.items()},
    )
