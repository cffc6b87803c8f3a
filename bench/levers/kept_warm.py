"""What need not be done again: a prompt that is cached, a model that is loaded."""

from __future__ import annotations

import asyncio

from bench.levers.routed import HAIKU, HEAD, PLACES, bedrock, firsts, priced, routed
from bench.levers.row import Row, less, ms
from router.doubles.aws.models import Model, Prices, Speed
from router.doubles.aws.world import Provisioned, World

UNITS = "anthropic.claude-3-5-haiku-units-v1:0"
"""What provisioned throughput is units of, in the double: the same model, always loaded."""


async def prompt_cache() -> Row:
    """One long system prompt, many questions."""
    speed, system = Speed(0.2, 0.0002, 0.005), " ".join(f"rule{n}" for n in range(4000))
    model = Model(HAIKU, speed=speed, prices=Prices(0.8, 4.0), answer_tokens=20)
    prices = "price_usd_per_mtok: {input: 0.8, output: 4, cache_read: 0.08, cache_write: 1.0}"
    found = {}
    for cache in ("", ", aws: {cache: {ttl: 5m}}"):
        policy = HEAD + bedrock("haiku", HAIKU, f", {prices}{cache}") + "class: {name: all}\n"
        world = World({HAIKU: model})
        async with routed(world, policy) as router:
            calls = []
            for place in PLACES:
                messages = [{"role": "system", "content": system}, {"role": "user", "content": f"And {place}?"}]
                calls.append(await router.ask("", messages=messages))
            usd = sum(e.cost_usd for e in router.booked())
            assert abs(usd - sum(bill.usd for bill in world.bills)) < 1e-9
        found[cache] = firsts(calls[2:]), usd
    (plain_s, plain_usd), (kept_s, kept_usd) = found.values()
    return Row(
        "shorter first token: latency up to -85 %, cost up to -90 % (Amazon Bedrock's page on prompt caching)",
        "200 ms and 0.2 ms for each of 4,000 tokens that are not read from the cache; reads at a tenth, writes at 1.25",
        f"first token {ms(plain_s)} to {ms(kept_s)} ({less(plain_s, kept_s)}) from the third question on; ten "
        f"questions cost {less(plain_usd, kept_usd)}, booked as billed",
        {
            "plain_first_s": plain_s,
            "cached_first_s": kept_s,
            "plain_usd": plain_usd,
            "cached_usd": kept_usd,
        },
    )


async def provisioned() -> Row:
    """On demand a model that was not called for a while is loaded anew; reserved units are always warm."""
    cold, warm = Speed(0.2, 0.0, 0.005, cold_start_s=1.5, warm_s=2.5), Speed(0.2, 0.0, 0.005)
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
    reserved = Provisioned(arn, "floor", UNITS)
    models = {
        HAIKU: Model(HAIKU, speed=cold, answer_tokens=20),
        UNITS: Model(UNITS, speed=warm, answer_tokens=20),
    }
    policy = HEAD + bedrock("spill", HAIKU, model="haiku")
    policy += bedrock("floor", arn, ", kind: provisioned, hourly_usd: 20", model="haiku")
    policy += priced(haiku=(0.8, 4)) + "class: {name: all}\n"
    found = {}
    async with routed(World(models, provisioned={arn: reserved}), policy) as router:
        for name in ("spill", "floor"):
            calls = []
            for n in range(6):
                await asyncio.sleep(0.05 if n % 2 else 2.6)
                calls += await router.many(1, model=name)
            found[name] = [call.first_s for call in calls]
        auto = await router.many(6)
    spread = {name: f"{ms(min(s))} to {ms(max(s))}" for name, s in found.items()}
    kept = sum(call.deployment == "floor" for call in auto)
    return Row(
        "no cold-start variation: a stable floor",
        "first token 200 ms; on demand 1.5 s to load after 2.5 s without a call, every second call here",
        f"first token on demand {spread['spill']}, reserved {spread['floor']}; left alone the router sends "
        f"{kept} of 6 to the reserved units",
        {
            "demand_least_s": min(found["spill"]),
            "demand_most_s": max(found["spill"]),
            "reserved_least_s": min(found["floor"]),
            "reserved_most_s": max(found["floor"]),
            "sent_to_reserved": kept,
        },
    )
