"""How an answer is given: as a stream, and shorter."""

from __future__ import annotations

from statistics import median

from bench.levers.routed import HAIKU, HEAD, bedrock, firsts, priced, routed, wholes
from bench.levers.row import Row, less, ms
from router.doubles.aws.models import Model, Speed
from router.doubles.aws.world import World


async def streaming() -> Row:
    """The reader sees the first token, not the last."""
    world = World({HAIKU: Model(HAIKU, speed=Speed(0.3, 0.0, 0.02), answer_tokens=100)})
    policy = HEAD + bedrock("haiku", HAIKU) + priced(haiku=(0.8, 4)) + "class: {name: all}\n"
    async with routed(world, policy) as router:
        whole, streamed = await router.many(3, stream=False), await router.many(3)
    return Row(
        "first token under 500 ms, perceived latency -80 %",
        "first token 300 ms, then 100 tokens of 20 ms",
        f"whole answer {ms(wholes(whole))}; first token {ms(firsts(streamed))} "
        f"({less(wholes(whole), firsts(streamed))}), of which the router {ms(firsts(streamed) - 0.3)}",
        {"whole_s": wholes(whole), "first_token_s": firsts(streamed)},
    )


async def shorter_answers() -> Row:
    """A fine-tuned model that says the same in fewer tokens."""
    speed = Speed(0.1, 0.0, 0.02)
    base, tuned = "meta.llama3-1-8b-instruct-v1:0", "arn-tuned"
    models = {base: Model(base, speed=speed, answer_tokens=200), tuned: Model(tuned, speed=speed, answer_tokens=50)}
    policy = (
        HEAD + bedrock("base", base) + bedrock("tuned", tuned, ", derived_from: base, optimizations: [fine-tuning]")
    )
    policy += priced(base=(0.22, 0.22), tuned=(0.22, 0.22)) + "class: {name: all}\n"
    async with routed(World(models), policy) as router:
        long, short = await router.many(2, model="base"), await router.many(4, model="tuned")
        booked = [e for e in router.booked() if e.tpot_s is not None]
    gaps = {who: median(e.tpot_s or 0.0 for e in booked if e.deployment == who) for who in ("base", "tuned")}
    return Row(
        "200 to 50 tokens: 75 % less time at the same time per token",
        "both models 100 ms, then 20 ms a token; 200 and 50 tokens",
        f"whole answer {ms(wholes(long))} to {ms(wholes(short))} ({less(wholes(long), wholes(short))}) at "
        f"{gaps['base'] * 1e3:.1f} and {gaps['tuned'] * 1e3:.1f} ms a token",
        {"long_s": wholes(long), "short_s": wholes(short), "long_gap_s": gaps["base"], "short_gap_s": gaps["tuned"]},
    )
