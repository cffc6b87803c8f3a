"""The same model, optimised in different ways."""

from __future__ import annotations

from bench.levers.routed import HEAD, routed, wholes
from bench.levers.row import Row, less, ms
from router.doubles.aws.models import Speed
from router.doubles.aws.sagemaker_runtime.endpoint import Endpoint, Variant
from router.doubles.aws.world import World

SPEEDS = {"plain": 0.030, "quantised": 0.0186, "speculative": 0.0150, "compiled": 0.0210}
TECHNIQUES = {"quantised": "quantization-awq", "speculative": "speculative-decoding", "compiled": "compilation-neuron"}


def _variant(name: str, *, is_measured: bool) -> str:
    """A deployment on one variant of the endpoint; with the step figures that `router profile` finds, or without."""
    more = f", derived_from: llama, optimizations: [{TECHNIQUES[name]}]" if name in TECHNIQUES else ""
    if is_measured:
        figures = f"base: {SPEEDS[name] * 1e3 + 1.0:.4g}, per_sequence: 0, per_context_token: 0, per_prefill_token: 0"
        more += f", step_ms: {{{figures}}}"
    model = "llama" if name == "plain" else f"llama-{name}"
    place = 'backend: sagemaker, target: llama, region: us-east-1, url: "URL"'
    price = "price_usd_per_mtok: {input: 1, output: 1}"
    return f"  - {{name: {name}, model: {model}, tier: small, {place}, {price}, aws: {{variant: {name}}}{more}}}\n"


async def variants() -> Row:
    """The same model plain, quantised, with a draft model, compiled: variants of one endpoint."""
    took: dict[str, float] = {}
    chosen = []
    for is_measured in (False, True):
        each = [Variant(name, speed=Speed(0.2, 0.0, s), answer_tokens=60) for name, s in SPEEDS.items()]
        policy = HEAD + "".join(_variant(name, is_measured=is_measured) for name in SPEEDS)
        policy += "class: {name: all, objectives: {tpot: {threshold: 17ms, target: 95%}}, exploration: 0}\n"
        async with routed(World(endpoints={"llama": Endpoint("llama", variants=each)}), policy) as router:
            auto = await router.many(20)
            took = took or {name: wholes(await router.many(3, model=name)) for name in SPEEDS}
        chosen.append(sum(call.deployment == "speculative" for call in auto))
    told = "; ".join(f"{name} {ms(s)} ({less(took['plain'], s)})" for name, s in took.items() if name != "plain")
    return Row(
        "time per token: quantised x 0.38 to 1, speculative x 0.5 to 1, compiled not claimed",
        "200 ms, then 60 tokens of 30 ms plain, 18.6 quantised, 15 speculative, 21 compiled",
        f"plain {ms(took['plain'])}; {told}; under an objective of 17 ms a token, of its first 20 requests the router "
        f"sends {chosen[0]} to the one variant that meets it, {chosen[1]} where the policy has measured `step_ms`",
        {**{f"{name}_s": s for name, s in took.items()}, "chosen_unmeasured": chosen[0], "chosen_measured": chosen[1]},
    )
