"""A question in independent parts, at the same time instead of one after another."""

from __future__ import annotations

import json
import time

from bench.levers.routed import HAIKU, HEAD, PLACES, bedrock, priced, routed, wholes
from bench.levers.row import Row, less
from router.doubles.aws.models import Model, Prices, Speed
from router.doubles.aws.world import World

_PARTS = [f"What does {place} live on?" for place in PLACES[:3]]


async def subqueries() -> Row:
    """Each part is routed on its own; the answers come back in order, and with a merge as one text."""
    world = World({HAIKU: Model(HAIKU, speed=Speed(1.0, 0.0, 0.05), prices=Prices(0.8, 4.0), answer_tokens=61)})
    policy = HEAD + bedrock("haiku", HAIKU) + priced(haiku=(0.8, 4)) + "class: {name: all}\n"
    async with routed(world, policy) as router:
        began = time.perf_counter()
        alone = [await router.ask(part, stream=False) for part in _PARTS]
        in_turn_s = time.perf_counter() - began
        calls = len(world.bills)
        whole = await router.ask("All three.", stream=False, metadata={"subqueries": _PARTS})
        parts, made = json.loads(whole.text)["router"]["parts"], len(world.bills) - calls
        assert [part["status"] for part in parts] == ["completed"] * 3, whole.text
        assert made == 3, made
        merge = {"subqueries": _PARTS, "merge": "Say it in one sentence."}
        merged = await router.ask("All three.", stream=False, metadata=merge)
        booked, billed = sum(e.cost_usd for e in router.booked()), sum(bill.usd for bill in world.bills)
        assert abs(booked - billed) < 1e-9, (booked, billed)
    return Row(
        "3 parts of 4 s take about 4 s, not 12",
        "each part 1 s and 60 x 50 ms",
        f"one part {wholes(alone):.2f} s; one after another {in_turn_s:.2f} s, as parts of one request "
        f"{whole.whole_s:.2f} s ({less(in_turn_s, whole.whole_s)}); with a merge, which is a call of its own, "
        f"{merged.whole_s:.2f} s; three answers in order",
        {"part_s": wholes(alone), "in_turn_s": in_turn_s, "parts_s": whole.whole_s, "merged_s": merged.whole_s},
    )
