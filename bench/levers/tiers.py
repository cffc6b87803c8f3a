"""Which model, and at which latency."""

from __future__ import annotations

import asyncio
from statistics import mean

from bench.levers.routed import HAIKU, HEAD, PLACES, SONNET, bedrock, firsts, priced, routed, wholes
from bench.levers.row import Row, less, ms
from router.doubles.aws.models import Model, Optimized, Prices, Quota, Speed
from router.doubles.aws.world import World

PROMPTS = (
    "What is the capital of {}?",
    "Say thank you in the language of {}.",
    "Is {} in Europe? Answer yes or no.",
    "Prove, step by step, that an optimal tax for {} exists under uncertainty, and derive its first-order conditions.",
    "Design a fault-tolerant consensus protocol for the trains of {} and analyse its worst-case message complexity.",
)


async def model_tier() -> Row:
    """What the small model is believed to do well enough goes there, as far as the floor on quality allows."""
    models = {
        HAIKU: Model(HAIKU, speed=Speed(0.25, 0.0, 0.005), prices=Prices(0.8, 4.0), answer_tokens=60),
        SONNET: Model(SONNET, speed=Speed(0.6, 0.0, 0.016), prices=Prices(3.0, 15.0), answer_tokens=60),
    }
    fleet = HEAD + bedrock("haiku", HAIKU) + bedrock("sonnet", SONNET, tier="large")
    fleet += priced(haiku=(0.8, 4), sonnet=(3, 15))
    prompts = [text.format(place) for place in PLACES for text in PROMPTS]
    promise = "class: {name: all, goal: cost, floor: {ratio: 80%}, exploration: 0}\n"
    async with routed(World(models), fleet + promise) as router:
        large = [await router.ask(text, model="sonnet") for text in prompts[::5]]
        small = [await router.ask(text, model="haiku") for text in prompts[::5]]
        before = len(router.booked())
        auto = [await router.ask(text) for text in prompts]
        booked = router.booked()
    usd_large = mean(e.cost_usd for e in booked[:before] if e.deployment == "sonnet")
    share = sum(call.deployment == "haiku" for call in auto) / len(auto)
    auto_s, auto_usd = mean(c.whole_s for c in auto), mean(e.cost_usd for e in booked[before:])
    return Row(
        "3-10x between tiers; Haiku about 3x faster than Sonnet; smaller models 2-5x",
        "Haiku 250 + 60 x 5 ms, USD 0.8/4; Sonnet 600 + 60 x 16 ms, USD 3/15",
        f"Haiku {wholes(large) / wholes(small):.1f}x faster; of 50 mixed prompts (goal cost, floor 80 %) "
        f"{share:.0%} to Haiku: latency {less(wholes(large), auto_s)}, cost {less(usd_large, auto_usd)} "
        "against all Sonnet",
        {
            "large_s": wholes(large),
            "small_s": wholes(small),
            "small_ratio": share,
            "mixed_s": auto_s,
            "large_usd": usd_large,
            "mixed_usd": auto_usd,
        },
    )


async def optimized_latency() -> Row:
    """Sooner and dearer, while its own quota lasts; what is served as standard is booked as standard."""
    lane = Optimized(quota=Quota(requests_per_min=24))
    model = Model(HAIKU, speed=Speed(0.4, 0.0, 0.01), prices=Prices(0.8, 4.0), answer_tokens=60, optimized=lane)
    policy = HEAD + bedrock("standard", HAIKU, model="haiku")
    policy += bedrock("fast", HAIKU, ", price_factor: 1.25, aws: {latency: optimized}", model="haiku")
    policy += priced(haiku=(0.8, 4)) + "class: {name: all}\n"
    world = World({HAIKU: model})
    async with routed(world, policy) as router:
        standard, fast = await router.many(5, model="standard"), await router.many(5, model="fast")
        await asyncio.gather(*(router.ask("More.", model="fast") for _ in range(30)))
        usd, billed = sum(e.cost_usd for e in router.booked()), sum(bill.usd for bill in world.bills)
        degraded = sum(b.latency == "standard" for b in world.bills) - 6
    return Row(
        "lower latency at a higher price; beyond its quota silently served and billed as standard",
        "half of every time for 1.25 of the price; standard 400 + 60 x 10 ms; 24 optimised calls a minute",
        f"first token {ms(firsts(standard))} to {ms(firsts(fast))} ({less(firsts(standard), firsts(fast))}), whole "
        f"{less(wholes(standard), wholes(fast))}; {degraded} of 35 served as standard; booked USD {usd:.6f}, "
        f"billed {billed:.6f}",
        {
            "standard_first_s": firsts(standard),
            "fast_first_s": firsts(fast),
            "standard_s": wholes(standard),
            "fast_s": wholes(fast),
            "degraded": degraded,
            "booked_usd": usd,
            "billed_usd": billed,
        },
    )
